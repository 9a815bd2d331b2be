// What tables our database has. Kysely's own question joins two tables of information_schema, for which MariaDB looks through
// every table of every database on the server: half a second where there are some hundreds, and 10.11 was seen to die of it.
import { type DatabaseMetadataOptions, type Kysely, MysqlIntrospector, sql, type TableMetadata } from 'kysely'
import { DEFAULT_MIGRATION_LOCK_TABLE, DEFAULT_MIGRATION_TABLE } from 'kysely/migration'

type ColumnRow = {
  readonly table: string
  readonly name: string
  readonly type: string
  readonly nullable: string
  readonly extra: string
  readonly value: string | null
}

export class MariadbIntrospector extends MysqlIntrospector {
  readonly #db: Kysely<unknown>
  readonly #database: string

  constructor(db: Kysely<unknown>, database: string) {
    super(db)
    this.#db = db
    this.#database = database
  }

  /** There are no views and no schemas but one: all of it is ours. */
  override async getTables(options: Partial<DatabaseMetadataOptions> = {}): Promise<TableMetadata[]> {
    const { rows } = await sql<ColumnRow>`
      select table_name as ${sql.ref('table')}, column_name as name, data_type as type, is_nullable as nullable,
        extra, column_default as value
      from information_schema.columns where table_schema = ${this.#database}
      order by table_name, ordinal_position`.execute(this.#db)
    const internal = [DEFAULT_MIGRATION_TABLE, DEFAULT_MIGRATION_LOCK_TABLE]
    const shown =
      options.withInternalKyselyTables === true ? rows : rows.filter(({ table }) => !internal.includes(table))
    return [...Map.groupBy(shown, ({ table }) => table)].map(([name, columns]) => ({
      name,
      isView: false,
      isForeign: false,
      schema: this.#database,
      columns: columns.map(({ name, type, nullable, extra, value }) => ({
        name,
        dataType: type,
        isNullable: nullable === 'YES',
        isAutoIncrementing: extra.toLowerCase().includes('auto_increment'),
        hasDefaultValue: value !== null,
      })),
    }))
  }
}
