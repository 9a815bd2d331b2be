// What a call says of the page it wants, and what it is told of the next.
import { pageUsual } from '../contract/paging.ts'
import type { Page, Paged } from '../db/page.ts'

/** The page that an input asks for. */
export function pageOf(
  { limit, cursor }: { readonly limit?: number | undefined; readonly cursor?: string | undefined },
  usual: number = pageUsual,
): Page {
  return { limit: limit ?? usual, cursor }
}

/** The part of an output that leads on. */
export function nextOf({ nextCursor }: Paged<unknown>): { nextCursor?: string } {
  return nextCursor === undefined ? {} : { nextCursor }
}
