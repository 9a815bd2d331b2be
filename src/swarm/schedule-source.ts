// What the scheduler knows of one source: which pieces it has or never will have, what was asked of it, and how fast it
// delivers. Plain data and the functions that keep it true.
import { emptyBitfield, hasBit } from '../protocol/bitfield.ts'
import { limits } from './schedule-limits.ts'

export type SourceKind = 'agent' | 'stranger' | 'web-seed'

export type Source = {
  readonly id: string
  readonly kind: SourceKind
  /** A bit a piece; undefined: all of them. */
  has: Uint8Array | undefined
  /** A bit a piece that it will never have; undefined: it will have all. */
  never: Uint8Array | undefined
  /** Of the pieces that we need, how many it has. */
  count: number
  /** Of all pieces, how many it lacks and will have. */
  lacking: number
  /** Piece to the moment it was asked for, oldest first. */
  readonly asked: Map<number, number>
  /** How many of them it has. */
  askedHeld: number
  /** No piece from here on was ever here. */
  top: number
  windowPieces: number
  bytesPerSecond: number
  bucketBytes: number
  bucketSince: number
  /** Pieces it held when the pace was last compared, how many had come to it since the time before, and the most so far. */
  countThen: number
  gained: number
  gainedBest: number
  /** The last that was asked of it was refused, and nothing has come since. */
  isRefusing: boolean
}

/** A source of which nothing is known yet. A web seed has everything. */
export function newSource(
  id: string,
  kind: SourceKind,
  of: { readonly pieces: number; readonly needed: number; readonly pieceBytes: number; readonly now: number },
): Source {
  const isWeb = kind === 'web-seed'
  return {
    id,
    kind,
    has: isWeb ? undefined : emptyBitfield(of.pieces),
    never: undefined,
    count: isWeb ? of.needed : 0,
    lacking: isWeb ? 0 : of.pieces,
    asked: new Map(),
    askedHeld: 0,
    top: isWeb ? of.pieces : 0,
    windowPieces: isWeb ? Math.ceil(limits.webWindowBytesMin / of.pieceBytes) + 1 : limits.windowPiecesMin,
    bytesPerSecond: 0,
    bucketBytes: 0,
    bucketSince: of.now,
    countThen: 0,
    gained: 0,
    gainedBest: 0,
    isRefusing: false,
  }
}

/** Bytes of pieces have come: its rate follows. */
export function noteBytes(source: Source, bytes: number, now: number): void {
  source.bucketBytes += bytes
  const elapsed = now - source.bucketSince
  if (elapsed < limits.rateMs) return
  const rate = (source.bucketBytes * 1000) / elapsed
  source.bytesPerSecond = source.bytesPerSecond === 0 ? rate : 0.6 * rate + 0.4 * source.bytesPerSecond
  source.bucketBytes = 0
  source.bucketSince = now
}

export function hasPiece(source: Source, piece: number): boolean {
  return source.has === undefined || hasBit(source.has, piece)
}

/** The source has said that it will never get this piece. */
export function isNever(source: Source, piece: number): boolean {
  return source.never !== undefined && hasBit(source.never, piece)
}
