import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type HeldPiece, planRelief } from './piece-budget.ts'

/** Pieces of 10 bytes from 0 on: `-` neither written nor wanted, `w` written, `n` needed by a neighbour, `b` both. */
function pieces(states: string): HeldPiece[] {
  return states.split('').map((state, piece) => ({
    piece,
    bytes: 10,
    isWritten: state === 'w' || state === 'b',
    isWanted: state === 'n' || state === 'b',
  }))
}

const none = { shortBytes: 0, overBytes: 0, spillSlots: 0 }

test.each([
  ['nothing is short: nothing leaves', 'wb-', none, [], []],
  ['what nobody has a use for goes first, the lowest first', 'bwww-', { ...none, shortBytes: 20 }, [1, 2], []],
  ['though it could be spilled', 'bww-', { ...none, shortBytes: 20, spillSlots: 9 }, [1, 2], []],
  [
    'what a neighbour lacks is spilled, the lowest first',
    'bwbb-',
    { ...none, shortBytes: 30, spillSlots: 9 },
    [1],
    [0, 2],
  ],
  ['then what is not written, the highest first', '-n-b', { ...none, shortBytes: 30, spillSlots: 9 }, [], [3, 2, 1]],
  ['no more is spilled than there is room for', 'bbb-', { ...none, shortBytes: 40, spillSlots: 2 }, [], [0, 1]],
  ['nothing that a neighbour lacks is dropped while there is memory', 'bbb', { ...none, shortBytes: 30 }, [], []],
  ['what must go at once is dropped, lacked or not', 'bbb-', { ...none, shortBytes: 30, overBytes: 20 }, [0, 1], []],
  ['but rather what is not spilled', 'bbb', { shortBytes: 30, overBytes: 10, spillSlots: 2 }, [2], [0, 1]],
  ['what is not written stays', '-nn-', { ...none, shortBytes: 40, overBytes: 40 }, [], []],
])('%s', (_, states, room, drop, spill) => {
  expect(planRelief(pieces(states), room)).toEqual({ drop, spill })
})

test('never is a piece dropped that is not written, nor one dropped and spilled, nor more spilled than fits', () => {
  const held = fc.string({ unit: fc.constantFrom('-', 'w', 'n', 'b'), maxLength: 30 }).map(pieces)
  const room = fc.record({ shortBytes: fc.nat(400), overBytes: fc.nat(400), spillSlots: fc.nat(9) })
  fc.assert(
    fc.property(held, room, (held, room) => {
      const { drop, spill } = planRelief(held, room)
      expect(drop.filter((piece) => held[piece]?.isWritten !== true)).toEqual([])
      expect(new Set([...drop, ...spill]).size).toBe(drop.length + spill.length)
      expect(spill.length).toBeLessThanOrEqual(room.spillSlots)
      const written = held.filter(({ isWritten }) => isWritten).length
      expect(drop.length * 10).toBeGreaterThanOrEqual(Math.min(room.overBytes, written * 10))
    }),
  )
})
