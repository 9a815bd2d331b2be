// Packed sources: who unpacks what, under which limits.
import { Failure } from '../model/failure.ts'
import { type Limits, outputOf } from './child.ts'

/** A day of one core: far more than the largest disk takes, and an end. */
const cpuSeconds = 24 * 3600
const GiB = 1024 ** 3

export type Packing = {
  readonly name: string
  readonly magic: Buffer
  readonly command: readonly [string, ...string[]]
  readonly limits: Limits
}

export const packings: readonly Packing[] = [
  {
    name: 'gzip',
    magic: Buffer.from('1f8b08', 'hex'),
    command: ['gzip', '-dc'],
    limits: { memoryBytes: GiB / 4, cpuSeconds },
  },
  {
    name: 'xz',
    magic: Buffer.from('fd377a585a00', 'hex'),
    // xz -9 asks for 65 MiB; custom dictionaries may ask for 4 GiB.
    command: ['xz', '-dc', '--threads=0', '--memlimit-decompress=1GiB', '--memlimit-mt-decompress=512MiB'],
    limits: { memoryBytes: 1.5 * GiB, cpuSeconds },
  },
  {
    name: 'zstd',
    magic: Buffer.from('28b52ffd', 'hex'),
    // Level 22 asks for 128 MiB, --long=29 for 512 MiB.
    command: ['zstd', '-dc', '--memory=512MB'],
    limits: { memoryBytes: 1.5 * GiB, cpuSeconds },
  },
  {
    name: 'bzip2',
    magic: Buffer.from('BZh'),
    command: ['bzip2', '-dc'],
    limits: { memoryBytes: GiB / 4, cpuSeconds },
  },
]

/** How `head` is packed, if it is. */
export function packingOf(head: Buffer): Packing | undefined {
  return packings.find(({ magic }) => head.subarray(0, magic.length).equals(magic))
}

/** What `packed` unpacks to. Throws Failure `image-broken` when it cannot be unpacked to its end. */
export async function* unpacked(
  { name, command, limits }: Packing,
  packed: AsyncIterable<Buffer>,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, void> {
  try {
    yield* outputOf(command, { limits, input: packed, signal })
  } catch (cause) {
    if (cause instanceof Failure || signal.aborted) throw cause
    const message = `the image source cannot be unpacked by ${name}: it is damaged, cut off or asks for too much memory`
    throw new Failure('image-broken', message, { cause })
  }
}
