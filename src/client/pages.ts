// Lists in pages, followed to their end.
import type { CallOptions } from '../contract/operation.ts'

type Page<Name extends string, Row> = { readonly [N in Name]: readonly Row[] } & { readonly nextCursor?: string }

/** As many rows as one answer may have. */
const pageMax = 1000

/**
 * The rows of a list operation that fit `input`, page by page, as one answer: `allPages(control.listHosts, 'hosts',
 * { site: 'a' })`. Rows that come or go meanwhile may be in it or not; no other is left out or given twice. `rowsMax`
 * bounds them.
 */
export async function allPages<Input extends { cursor?: string; limit?: number }, Name extends string, Row>(
  list: (input: Input, options?: CallOptions) => Promise<Page<Name, Row>>,
  name: Name,
  input: Input,
  { rowsMax = Number.POSITIVE_INFINITY, ...options }: CallOptions & { readonly rowsMax?: number } = {},
): Promise<{ [N in Name]: Row[] }> {
  const rows: Row[] = []
  let cursor: string | undefined
  do {
    const limit = Math.min(pageMax, rowsMax - rows.length)
    const page = await list({ ...input, limit, ...(cursor === undefined ? {} : { cursor }) }, options)
    for (const row of page[name]) rows.push(row)
    cursor = page.nextCursor
  } while (cursor !== undefined && rows.length < rowsMax)
  // A type with one computed name is not seen by the compiler.
  return { [name]: rows } as { [N in Name]: Row[] }
}
