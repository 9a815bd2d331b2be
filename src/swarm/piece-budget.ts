// Which pieces leave memory when it is short. Pure: the store asks, and does what it is told.

/** A piece in memory that is not on its way out of it already. */
export type HeldPiece = {
  readonly piece: number
  readonly bytes: number
  /** This agent has no more use for it itself. */
  readonly isWritten: boolean
  /** Some neighbour still lacks it. */
  readonly isWanted: boolean
}

export type Relief = {
  /** Forget these at once. */
  readonly drop: readonly number[]
  /** Bring these to the spill area, in this order; their memory is free when they are there. */
  readonly spill: readonly number[]
}

/**
 * Finds `shortBytes` to free, of which `overBytes` must go at once, among pieces in ascending order. First what nobody
 * has a use for is dropped. Then pieces are spilled, as many as there are `spillSlots`: written ones from the lowest on,
 * which only neighbours far behind still want, while those close behind ask for the newest; then ones not written yet
 * from the highest on, which this agent's own writer comes to last. What must go at once and is written is dropped though
 * a neighbour lacks it, which can ask elsewhere. A piece that is not written is never dropped.
 */
export function planRelief(
  held: readonly HeldPiece[],
  room: { readonly shortBytes: number; readonly overBytes: number; readonly spillSlots: number },
): Relief {
  const drop: number[] = []
  const spill: number[] = []
  let droppedBytes = 0
  let spilledBytes = 0
  for (const { piece, bytes } of held.filter(({ isWritten, isWanted }) => isWritten && !isWanted)) {
    if (droppedBytes >= Math.max(room.shortBytes, room.overBytes)) break
    drop.push(piece)
    droppedBytes += bytes
  }
  const wanted = held.filter(({ isWritten, isWanted }) => isWritten && isWanted)
  const unwritten = held.filter(({ isWritten }) => !isWritten).toReversed()
  for (const { piece, bytes } of [...wanted, ...unwritten]) {
    if (droppedBytes + spilledBytes >= room.shortBytes || spill.length >= room.spillSlots) break
    spill.push(piece)
    spilledBytes += bytes
  }
  // Those that are not about to be spilled go first: of the others a copy is left.
  const spilling = new Set(spill)
  const [kept, leaving] = [
    wanted.filter(({ piece }) => !spilling.has(piece)),
    wanted.filter(({ piece }) => spilling.has(piece)),
  ]
  for (const { piece, bytes } of [...kept, ...leaving]) {
    if (droppedBytes >= room.overBytes) break
    drop.push(piece)
    spilling.delete(piece)
    droppedBytes += bytes
  }
  return { drop, spill: spill.filter((piece) => spilling.has(piece)) }
}
