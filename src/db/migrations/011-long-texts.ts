// A `text` of MariaDB holds 64 KiB, and of SQLite whatever is put there: columns that may grow beyond that become alike.
import { type Kysely, MysqlAdapter, sql } from 'kysely'

/** By table: each column, and whether it may be null. */
const longTexts: Readonly<Record<string, Readonly<Record<string, 'not null' | 'null'>>>> = {
  setups: { xml: 'not null' },
  inventories: { json: 'not null' },
  profiles: { json: 'not null' },
  images: { contents: 'null' },
  rollouts: { state_reason: 'null', policy: 'null' },
  power_methods: { options: 'not null' },
  deployments: { failure: 'null', proof: 'null', history: 'not null', transfer: 'null', track: 'null' },
  captures: { hints: 'not null' },
  reboots: { failure: 'null' },
  tasks: { failure: 'null' },
}

export async function up(db: Kysely<unknown>): Promise<void> {
  if (!(db.getExecutor().adapter instanceof MysqlAdapter)) return
  for (const [table, columns] of Object.entries(longTexts)) {
    const changes = Object.entries(columns).map(
      ([column, nullable]) => sql`modify ${sql.ref(column)} mediumtext ${sql.raw(nullable)}`,
    )
    await sql`alter table ${sql.table(table)} ${sql.join(changes)}`.execute(db)
  }
}
