// Lists in pages, the same way in every operation that lists: `limit` and `cursor` go in, `nextCursor` comes out as long as
// there is more. A page begins behind the last row of the one before, so rows that come and go meanwhile shift nothing.
import { Type } from 'typebox'

/** Rows of a page when the call does not say. */
export const pageUsual = 100

/** What a list takes beside its filters. */
export function pageInput({ usual = pageUsual, max = 1000 } = {}) {
  return {
    limit: Type.Optional(
      Type.Integer({ minimum: 1, maximum: max, description: `No more than this in one answer; ${usual} if not said` }),
    ),
    cursor: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 2000,
        description: '`nextCursor` of the answer before, with the same sort; begins anew without',
      }),
    ),
  }
}

/** What a list gives beside its rows. */
export const pageOutput = {
  nextCursor: Type.Optional(Type.String({ minLength: 1, maxLength: 2000, description: 'There is more, behind this' })),
}
