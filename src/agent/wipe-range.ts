// Makes a range of a disk hold nothing that any system would take for a file system, an array or a volume: old signatures
// survive where only parts are written anew, and what they name comes back to life.
import type { DiskRange } from '../model/layout-plan.ts'
import type { OpenDisk } from './disk.ts'
import { runTool } from './tool.ts'

const mebibyte = 1024 * 1024

/**
 * At both ends: file systems, LVM, md 1.1 and 1.2 and ZFS's first labels lie in the first MiB, md 0.90 and 1.0, ZFS's last
 * labels and a backup GPT in the last. Between, btrfs keeps copies of its superblock.
 */
const endBytes = mebibyte
const btrfsCopies = [64 * mebibyte, 256 * 1024 * mebibyte]
const btrfsCopyBytes = 4096

/** What of `range` is zeroed, in disk order. */
export function signatureRanges({ offset, length }: DiskRange): readonly DiskRange[] {
  if (length <= 2 * endBytes) return [{ offset, length }]
  const copies = btrfsCopies.filter((at) => at >= endBytes && at + btrfsCopyBytes <= length - endBytes)
  return [
    { offset, length: endBytes },
    ...copies.map((at) => ({ offset: offset + at, length: btrfsCopyBytes })),
    { offset: offset + length - endBytes, length: endBytes },
  ]
}

/** Zeroes the signatures of ranges that begin and end on sectors. Resolves when that is durable. */
export async function wipeRanges(
  disk: OpenDisk,
  ranges: readonly DiskRange[],
  zeros: Buffer,
  signal: AbortSignal,
): Promise<void> {
  for (const range of ranges.flatMap(signatureRanges)) {
    signal.throwIfAborted()
    await disk.write(zeros, range.length, range.offset)
  }
  await disk.flush()
}

/** What wipefs knows beyond, at a device of its own: it looks from the beginning of a device only. */
export async function wipeSignatures(path: string, signal: AbortSignal): Promise<void> {
  await runTool(`wipe the signatures of ${path}`, ['wipefs', '--all', path], { signal })
}
