// Where the stored bytes of an image come from, as the transfer sees it: one face for the origin by HTTP, for the swarm and
// for aria2. Whoever implements it brings bytes; the transfer (write.ts) checks, inflates and writes them.
import type { TransferEngine } from '../model/swarm.ts'
import type { SupplyCounts } from '../swarm/piece-supply.ts'

/** A data frame whose stored bytes are here. */
export type ArrivedFrame = {
  readonly number: number
  /**
   * Its bytes as in image.zst, unchecked against the manifest. They are the source's: nobody may change them, and they
   * stay until `written`. Rejects when they are lost after all.
   */
  readonly read: () => Promise<Buffer>
}

/** What came from where, in bytes of image.zst; `engine` is the one that brings frames now. */
export type SourceCounts = SupplyCounts & { readonly engine: TransferEngine }

/** Brings the stored bytes of an image's data frames, in whatever order they arrive. */
export interface FrameSource {
  /**
   * Every data frame once, as it becomes whole. Called once. Slow takers slow the source down. Throws the reason of
   * `signal`, or what keeps the source from going on.
   */
  frames(signal: AbortSignal): AsyncIterable<ArrivedFrame>
  /** The frame is on the disk: its bytes may go. */
  written(number: number): void
  counts(): SourceCounts
  /** Stays a source for others while they gain from it, at most `maxMs`. Rejects with the reason of `signal`. */
  linger(options: { readonly maxMs: number; readonly signal: AbortSignal }): Promise<void>
  /** Ends everything it began. Closing again does nothing. */
  close(): Promise<void>
}
