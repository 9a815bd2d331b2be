// What of a captured disk need not be read, because its file systems call it free: told by the readers that tell it of an image.
// And the frames of the disk without it.
import { open } from 'node:fs/promises'
import { partOf } from '../image/content.ts'
import { DeviceContent } from '../image/device-content.ts'
import { type FreeMap, freeMapBytes } from '../image/free-map.ts'
import { findFreeSpace, type VolumeReport } from '../image/free-space.ts'
import { diskBytesMax } from '../image/manifest.ts'
import { partitionTableBytes, readPartitionTable } from '../image/partition-table.ts'
import { readUsed } from '../image/read-used.ts'
import { causeChain } from '../model/failure.ts'
import { frameSizeBytes } from '../model/image.ts'
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
  let device: DeviceContent | undefined
  try {
    // A map has no room for more; the service will refuse such a disk.
    if (sizeBytes > diskBytesMax) throw new Error(`it has ${sizeBytes} bytes, and ${diskBytesMax} can be published`)
    if (!hasMap) throw new Error(`this machine has no memory for its map of ${megabytes(freeMapBytes(sizeBytes))}`)
    device = new DeviceContent(await open(path), offset + sizeBytes)
    const content = partOf(device, offset, sizeBytes)
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
    await device?.close()
  }
}

/**
 * Reads a frame of the source to `slot`, its free blocks as zeros; gives its bytes, and how many were read. Throws Failure
 * `disk-error` with the place, unless only what is free cannot be read.
 */
export async function readFrame(
  disk: OpenDisk,
  { source, free }: { readonly source: CaptureSource; readonly free: FreeMap | undefined },
  slot: Buffer,
  frame: number,
): Promise<{ raw: Buffer; bytesRead: number }> {
  const at = frame * frameSizeBytes
  const raw = slot.subarray(0, Math.min(frameSizeBytes, source.sizeBytes - at))
  const bytesRead = await readUsed({ map: free, frame, rawBytes: raw.length }, (from, bytes) =>
    disk.read(slot.subarray(from), bytes, source.offset + at + from),
  )
  free?.clear(raw, at)
  return { raw, bytesRead }
}

function wordsOf({ partition, fileSystem, freeBytes, kept }: VolumeReport): string {
  const place = partition === 0 ? '' : `partition ${partition}, `
  return `${place}${fileSystem}: ${kept === undefined ? megabytes(freeBytes) : `none is left out, ${kept}`}`
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`
}
