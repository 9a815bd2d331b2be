// A database takes only so many parameters in one statement: long lists of ids and names are asked for in parts.

/** Well below what SQLite and MariaDB take, and few enough statements for ten thousand hosts. */
const chunkLength = 500

/** The rows of `query` for every part of `list`, in the order of the parts; none when the list is empty. */
export async function inChunks<T, R>(
  list: readonly T[],
  query: (chunk: readonly T[]) => Promise<readonly R[]>,
): Promise<R[]> {
  const rows: R[] = []
  for (let i = 0; i < list.length; i += chunkLength) {
    // One by one and not spread: a chunk may have more rows than a call takes arguments.
    for (const row of await query(list.slice(i, i + chunkLength))) rows.push(row)
  }
  return rows
}
