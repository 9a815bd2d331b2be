// Reading what of a frame of a disk is used: an import and a capture read a failing disk alike.
import { type BlockRun, blockBytes } from '../model/image.ts'
import type { FreeMap } from './free-map.ts'

/** A frame of a disk, and what of the disk is free: nothing, where that is not known. */
export type UsedFrame = { readonly map: FreeMap | undefined; readonly frame: number; readonly rawBytes: number }

/**
 * Has the used bytes of a frame read by `read`, which is given where they begin in the frame. Short gaps are read along, because
 * a read of their own costs more; where that fails the used parts are read alone, because what is free need not be readable.
 * Gives how many bytes were read. Throws what `read` throws.
 */
export async function readUsed(
  { map, frame, rawBytes }: UsedFrame,
  read: (from: number, bytes: number) => Promise<void>,
): Promise<number> {
  const readRuns = async (runs: readonly BlockRun[]): Promise<number> => {
    let bytesRead = 0
    for (const [first, blocks] of runs) {
      const from = first * blockBytes
      const bytes = Math.min(blocks * blockBytes, rawBytes - from)
      await read(from, bytes)
      bytesRead += bytes
    }
    return bytesRead
  }
  const whole: readonly BlockRun[] = [[0, Math.ceil(rawBytes / blockBytes)]]
  const runs = map?.runsOf(frame, rawBytes) ?? whole
  return await readRuns(runs).catch(async (error: unknown) => {
    const kept = map?.keptOf(frame, rawBytes) ?? whole
    // A bad place is not read twice where nothing that is free lies beside it.
    if (blocksIn(kept) === blocksIn(runs)) throw error
    return await readRuns(kept)
  })
}

function blocksIn(runs: readonly BlockRun[]): number {
  return runs.reduce((sum, [, blocks]) => sum + blocks, 0)
}
