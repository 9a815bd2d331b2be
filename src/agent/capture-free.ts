// What of a captured disk need not be read, because its file systems call it free: told by the readers that tell it of an image.
import { open } from 'node:fs/promises'
import { FileContent, partOf } from '../image/content.ts'
import type { FreeMap } from '../image/free-map.ts'
import { findFreeSpace, type VolumeReport } from '../image/free-space.ts'
import { partitionTableBytes, readPartitionTable } from '../image/partition-table.ts'
import { causeChain } from '../model/failure.ts'
import type { CaptureSource } from './capture-source.ts'

/**
 * The free blocks of the source, and the words that tell the operator of them. No map where the disk cannot be asked: then all is
 * read, and a place that cannot be read is told by its offset. Throws the reason of `signal`.
 */
export async function freeOf(
  source: CaptureSource,
  signal: AbortSignal,
): Promise<{ map: FreeMap | undefined; words: string }> {
  const { path, offset, sizeBytes } = source
  let file: FileContent | undefined
  try {
    file = new FileContent(await open(path), offset + sizeBytes)
    const content = partOf(file, offset, sizeBytes)
    const table = readPartitionTable(await content.read(0, Math.min(partitionTableBytes, sizeBytes)))
    const { map, volumes } = await findFreeSpace(content, table, signal)
    const sum = `${megabytes(map.freeBytes())} of ${megabytes(sizeBytes)} are free and stay out of the image`
    return { map, words: [sum, ...volumes.map(wordsOf)].join('; ') }
  } catch (error) {
    signal.throwIfAborted()
    return { map: undefined, words: `all is read, for what is free cannot be seen: ${causeChain(error).join(': ')}` }
  } finally {
    await file?.close()
  }
}

function wordsOf({ partition, fileSystem, freeBytes, kept }: VolumeReport): string {
  const place = partition === 0 ? '' : `partition ${partition}, `
  return `${place}${fileSystem}: ${kept === undefined ? megabytes(freeBytes) : `none is left out, ${kept}`}`
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`
}
