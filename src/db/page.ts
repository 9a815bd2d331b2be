// Pages of a list by keyset: a page is what lies behind the last row of the one before, in the order of columns that
// together tell every row apart. Its place travels as an opaque word, the cursor.
import type { ExpressionBuilder, ReferenceExpression, SelectQueryBuilder } from 'kysely'
import { Failure } from '../model/failure.ts'
import { inChunks } from './chunks.ts'

export type Page = { readonly limit: number; readonly cursor?: string | undefined }

export type Paged<T> = { readonly rows: T[]; readonly nextCursor: string | undefined }

type Value = string | number

/** One column of the order, and its value in a row that was read. */
export type SortKey<O> = { readonly of: (row: O) => Value; readonly descending?: boolean }

type SortColumn<DB, TB extends keyof DB, O> = SortKey<O> & { readonly by: ReferenceExpression<DB, TB> }

/** Only rows in which `column` has one of many values: they are asked for in parts. */
export type Among<DB, TB extends keyof DB> = {
  readonly column: ReferenceExpression<DB, TB>
  readonly values: readonly Value[]
}

/**
 * The page of `query`, which has no order and no limit of its own. The last column of `order` must be unique. Failure
 * `bad-input` when the cursor is none of this order.
 */
export async function readPage<DB, TB extends keyof DB, O>(
  query: SelectQueryBuilder<DB, TB, O>,
  order: readonly SortColumn<DB, TB, O>[],
  { limit, cursor }: Page,
  among?: Among<DB, TB>,
): Promise<Paged<O>> {
  const past = cursor === undefined ? undefined : readCursor(cursor, order)
  let wanted = query.limit(limit + 1)
  for (const { by, descending } of order) wanted = wanted.orderBy(by as never, descending ? 'desc' : 'asc')
  if (past) wanted = wanted.where((eb) => eb.or(order.map((_, last) => eb.and(behind(eb, order, past, last)))))
  if (among === undefined) return cut(await wanted.execute(), order, limit)
  const rows = await inChunks(among.values, (chunk) => wanted.where(among.column, 'in', chunk as never).execute())
  rows.sort(comparison(order))
  return cut(rows, order, limit)
}

/** The page of a list that is in memory whole, because it is short. */
export function slicePage<O>(all: readonly O[], order: readonly SortKey<O>[], { limit, cursor }: Page): Paged<O> {
  const rows = [...all].sort(comparison(order))
  if (cursor === undefined) return cut(rows, order, limit)
  const past = readCursor(cursor, order)
  const isBehind = (row: O): boolean => compare(order, valuesOf(order, row), past) > 0
  return cut(rows.filter(isBehind), order, limit)
}

/** Equal in the columns before `last`, and behind in that one. */
function behind<DB, TB extends keyof DB, O>(
  eb: ExpressionBuilder<DB, TB>,
  order: readonly SortColumn<DB, TB, O>[],
  past: readonly Value[],
  last: number,
) {
  return order.slice(0, last + 1).map(({ by, descending }, index) => {
    const operator = index < last ? '=' : descending ? '<' : '>'
    return eb(by, operator, past[index] as never)
  })
}

function cut<O>(rows: O[], order: readonly SortKey<O>[], limit: number): Paged<O> {
  const kept = rows.slice(0, limit)
  const last = kept.at(-1)
  const isMore = rows.length > limit && last !== undefined
  return { rows: kept, nextCursor: isMore ? writeCursor(order, valuesOf(order, last)) : undefined }
}

function valuesOf<O>(order: readonly SortKey<O>[], row: O): Value[] {
  return order.map(({ of }) => of(row))
}

function comparison<O>(order: readonly SortKey<O>[]): (a: O, b: O) => number {
  return (a, b) => compare(order, valuesOf(order, a), valuesOf(order, b))
}

function compare(order: readonly { readonly descending?: boolean }[], a: readonly Value[], b: readonly Value[]) {
  for (const [index, { descending }] of order.entries()) {
    const [left, right] = [a[index] ?? '', b[index] ?? '']
    if (left !== right) return left < right === (descending ?? false) ? 1 : -1
  }
  return 0
}

function writeCursor<O>(order: readonly SortKey<O>[], values: readonly Value[]): string {
  return Buffer.from(JSON.stringify([shapeOf(order), ...values])).toString('base64url')
}

/** The directions of an order: enough to tell most orders of one list apart, and without a word of our tables. */
function shapeOf<O>(order: readonly SortKey<O>[]): string {
  return order.map(({ descending }) => (descending ? '-' : '+')).join('')
}

function readCursor<O>(cursor: string, order: readonly SortKey<O>[]): Value[] {
  try {
    const [shape, ...values] = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8')) as unknown[]
    const isValue = (value: unknown): value is Value => typeof value === 'string' || Number.isSafeInteger(value)
    if (shape === shapeOf(order) && values.length === order.length && values.every(isValue)) return values
  } catch {
    // Not one of ours either.
  }
  throw new Failure('bad-input', 'the cursor is none of this list in this order: begin anew without it', {
    at: 'cursor',
  })
}
