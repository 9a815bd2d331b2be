// Which frames are whole when a piece has come, and which pieces are needed no more when a frame is on the disk. Pieces are
// cut without regard to frames: one holds parts of several, and a frame lies in several. Pure.
import type { Manifest } from '../model/image.ts'
import { type PieceGeometry, pieceCount } from '../model/swarm.ts'

export type FrameAssembly = {
  /**
   * Piece `piece` is here: the frames that are whole by it, in disk order, and the pieces that hold nothing this host has a
   * use for. Pieces that hold only zero frames or the seek table are such. A piece that comes again changes nothing.
   */
  readonly arrived: (piece: number) => { readonly whole: readonly number[]; readonly unneeded: readonly number[] }
  /** Frame `number` is on the disk: the pieces that no unwritten frame needs any more. */
  readonly written: (number: number) => readonly number[]
}

/** Frames that `isWanted` is false of are here by other means. */
export function createFrameAssembly(
  manifest: Manifest,
  geometry: PieceGeometry,
  isWanted: (number: number) => boolean = () => true,
): FrameAssembly {
  const pieces = pieceCount(geometry)
  const isHere = new Uint8Array(pieces)
  /** The data frames that have a part in each piece, and how many of them are not written. */
  const framesIn: number[][] = Array.from({ length: pieces }, () => [])
  const unwrittenIn = new Uint32Array(pieces)
  /** For each frame, how many of its pieces are missing. */
  const missingOf = new Uint32Array(manifest.frames.length)
  const isWritten = new Uint8Array(manifest.frames.length)

  const piecesOf = (number: number): readonly number[] =>
    isWanted(number) ? piecesOfFrame(manifest, number, geometry) : []
  for (const number of manifest.frames.keys()) {
    const own = piecesOf(number)
    missingOf[number] = own.length
    for (const piece of own) {
      framesIn[piece]?.push(number)
      unwrittenIn[piece] = (unwrittenIn[piece] ?? 0) + 1
    }
  }

  return {
    arrived: (piece) => {
      if (isHere[piece] !== 0) return { whole: [], unneeded: [] }
      isHere[piece] = 1
      const whole = (framesIn[piece] ?? []).filter((number) => {
        const missing = (missingOf[number] ?? 0) - 1
        missingOf[number] = missing
        return missing === 0
      })
      return { whole, unneeded: unwrittenIn[piece] === 0 ? [piece] : [] }
    },
    written: (number) => {
      if (isWritten[number] !== 0) return []
      isWritten[number] = 1
      return piecesOf(number).filter((piece) => {
        const unwritten = (unwrittenIn[piece] ?? 0) - 1
        unwrittenIn[piece] = unwritten
        return unwritten === 0
      })
    },
  }
}

/** The pieces that a data frame lies in. */
export function piecesOfFrame(manifest: Manifest, number: number, { pieceBytes }: PieceGeometry): readonly number[] {
  const frame = manifest.frames[number]
  if (frame?.class !== 'data') return []
  const first = Math.floor(frame.offset / pieceBytes)
  const last = Math.floor((frame.offset + frame.length - 1) / pieceBytes)
  return Array.from({ length: last - first + 1 }, (_, index) => first + index)
}
