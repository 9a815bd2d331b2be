// What the database itself says of its tables, the same for SQLite and MariaDB: for backups and checks, which name no table.
import { type Kysely, MysqlAdapter, sql, type Transaction } from 'kysely'
import type { Schema } from './schema.ts'

/** Any of our tables, whatever its columns. */
export type AnyTables = Record<string, Record<string, unknown>>

export type ForeignKey = {
  readonly table: string
  readonly column: string
  readonly parent: string
  readonly parentColumn: string
}

export function isMysql(db: Pick<Kysely<Schema>, 'getExecutor'>): boolean {
  return db.getExecutor().adapter instanceof MysqlAdapter
}

export function anyTables(db: Kysely<Schema> | Transaction<Schema>): Kysely<AnyTables> {
  return db as unknown as Kysely<AnyTables>
}

/** The names of our tables, without Kysely's own. */
export async function tableNames(db: Kysely<Schema>): Promise<string[]> {
  return (await db.introspection.getTables()).map(({ name }) => name).sort()
}

/** The columns of a table's primary key, in its order. */
export async function primaryKeyOf(db: Kysely<Schema>, table: string): Promise<string[]> {
  const { rows } = isMysql(db)
    ? await sql<{ name: string }>`
        select column_name as name from information_schema.key_column_usage
        where table_schema = database() and table_name = ${table} and constraint_name = 'PRIMARY'
        order by ordinal_position`.execute(db)
    : await sql<{ name: string }>`select name from pragma_table_info(${table}) where pk > 0 order by pk`.execute(db)
  return rows.map(({ name }) => name)
}

export async function foreignKeysOf(db: Kysely<Schema>, table: string): Promise<ForeignKey[]> {
  const { rows } = isMysql(db)
    ? await sql<Omit<ForeignKey, 'table'>>`
        select column_name as ${sql.ref('column')}, referenced_table_name as parent,
          referenced_column_name as ${sql.ref('parentColumn')}
        from information_schema.key_column_usage
        where table_schema = database() and table_name = ${table} and referenced_table_name is not null
        order by column_name`.execute(db)
    : await sql<Omit<ForeignKey, 'table'>>`
        select "from" as "column", "table" as parent, "to" as "parentColumn"
        from pragma_foreign_key_list(${table}) order by "from"`.execute(db)
  return rows.map((row) => ({ table, ...row }))
}

/** How many rows point at nothing. */
export async function countOrphans(
  db: Kysely<Schema>,
  { table, column, parent, parentColumn }: ForeignKey,
): Promise<number> {
  const { rows } = await sql<{ n: number }>`
    select count(*) as n from ${sql.table(table)} as child
    left join ${sql.table(parent)} as parent on ${sql.ref(`parent.${parentColumn}`)} = ${sql.ref(`child.${column}`)}
    where ${sql.ref(`child.${column}`)} is not null and ${sql.ref(`parent.${parentColumn}`)} is null`.execute(db)
  return rows[0]?.n ?? 0
}
