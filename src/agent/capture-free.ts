// What of a captured disk need not be read, because its file systems call it free: told by the readers that tell it of an image.
// And the frames of the disk without it.
import { open } from 'node:fs/promises'
import { FileContent, partOf } from '../image/content.ts'
import { type FreeMap, freeMapBytes } from '../image/free-map.ts'
import { findFreeSpace, type VolumeReport } from '../image/free-space.ts'
import { diskBytesMax } from '../image/manifest.ts'
import { partitionTableBytes, readPartitionTable } from '../image/partition-table.ts'
import { causeChain } from '../model/failure.ts'
import { type BlockRun, blockBytes, frameSizeBytes } from '../model/image.ts'
import type { CaptureSource } from './capture-source.ts'
import type { OpenDisk } from './disk.ts'
import type { CapturePlan } from './memory-plan.ts'

/**
 * The free blocks of the source, how many bytes they are, and the words that tell the operator of them. No map where the disk
 * cannot be asked, or the map has no room in memory: then all is read, and a place that cannot be read is told by its offset.
 * Throws the reason of `signal`.
 */
export async function freeOf(
  source: CaptureSource,
  { hasMap }: Pick<CapturePlan, 'hasMap'>,
  signal: AbortSignal,
): Promise<{ map: FreeMap | undefined; freeBytes: number; words: string }> {
  const { path, offset, sizeBytes } = source
  let file: FileContent | undefined
  try {
    // A map has no room for more; the service will refuse such a disk.
    if (sizeBytes > diskBytesMax) throw new Error(`it has ${sizeBytes} bytes, and ${diskBytesMax} can be published`)
    if (!hasMap) throw new Error(`this machine has no memory for its map of ${megabytes(freeMapBytes(sizeBytes))}`)
    file = new FileContent(await open(path), offset + sizeBytes)
    const content = partOf(file, offset, sizeBytes)
    const table = readPartitionTable(await content.read(0, Math.min(partitionTableBytes, sizeBytes)))
    const { map, volumes } = await findFreeSpace(content, table, signal)
    const freeBytes = map.freeBytes()
    const sum = `${megabytes(freeBytes)} of ${megabytes(sizeBytes)} are free and stay out of the image`
    return { map, freeBytes, words: [sum, ...volumes.map(wordsOf)].join('; ') }
  } catch (error) {
    signal.throwIfAborted()
    const why = causeChain(error).join(': ')
    return { map: undefined, freeBytes: 0, words: `all is read, for what is free cannot be seen: ${why}` }
  } finally {
    await file?.close()
  }
}

/**
 * Reads a frame of the source to `slot`, its free blocks as zeros; gives its bytes, and how many were read. Short gaps between
 * runs are read along. Throws Failure `disk-error` with the place, unless only what is free cannot be read.
 */
export async function readUsed(
  disk: OpenDisk,
  { source, free }: { readonly source: CaptureSource; readonly free: FreeMap | undefined },
  slot: Buffer,
  frame: number,
): Promise<{ raw: Buffer; bytesRead: number }> {
  const at = frame * frameSizeBytes
  const raw = slot.subarray(0, Math.min(frameSizeBytes, source.sizeBytes - at))
  const readRuns = async (runs: readonly BlockRun[]): Promise<number> => {
    let bytesRead = 0
    for (const [first, blocks] of runs) {
      const from = first * blockBytes
      const bytes = Math.min(blocks * blockBytes, raw.length - from)
      await disk.read(slot.subarray(from), bytes, source.offset + at + from)
      bytesRead += bytes
    }
    return bytesRead
  }
  const whole: readonly BlockRun[] = [[0, Math.ceil(raw.length / blockBytes)]]
  const runs = free?.runsOf(frame, raw.length) ?? whole
  const bytesRead = await readRuns(runs).catch(async (error: unknown) => {
    const kept = free?.keptOf(frame, raw.length) ?? whole
    // A bad place is not read twice where nothing that is free lies beside it.
    if (blocksIn(kept) === blocksIn(runs)) throw error
    return await readRuns(kept)
  })
  free?.clear(raw, at)
  return { raw, bytesRead }
}

function blocksIn(runs: readonly BlockRun[]): number {
  return runs.reduce((sum, [, blocks]) => sum + blocks, 0)
}

function wordsOf({ partition, fileSystem, freeBytes, kept }: VolumeReport): string {
  const place = partition === 0 ? '' : `partition ${partition}, `
  return `${place}${fileSystem}: ${kept === undefined ? megabytes(freeBytes) : `none is left out, ${kept}`}`
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`
}
