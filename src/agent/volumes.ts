// The file systems on a disk, found and mounted without the kernel's own partitions: the same for a disk, a part of one, a
// copy-on-write view and a file. Uses sfdisk, blkid, losetup and mount (util-linux).
import { mkdtemp, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { mount, openLoop, unmount } from '../lib/block-devices.ts'
import { Failure } from '../model/failure.ts'

/** A range of a disk, and what lies there as far as blkid says. */
export type Volume = {
  /** As `partition 2`, or `the whole disk`. */
  readonly place: string
  readonly offset: number
  readonly sizeBytes: number
  /** Undefined where nothing is known. */
  readonly type: string | undefined
}

export type Partition = { readonly number: number; readonly offset: number; readonly sizeBytes: number }

const commandMs = 60_000

/** The partitions of a disk in the order of their numbers; none when it has no table. Throws Failure `disk-error`. */
export async function partitionsOf(disk: string, signal: AbortSignal): Promise<readonly Partition[]> {
  const result = await run('sfdisk', ['--json', disk], signal)
  if (result.failed) {
    if (/does not contain a recognized partition table/.test(result.stderr)) return []
    throw new Failure('disk-error', `the partition table of ${disk} cannot be read: ${result.stderr.trim()}`)
  }
  const { partitiontable } = JSON.parse(result.stdout) as {
    readonly partitiontable: {
      readonly sectorsize?: number
      readonly partitions?: readonly { readonly node: string; readonly start: number; readonly size: number }[]
    }
  }
  const sectorBytes = partitiontable.sectorsize ?? 512
  return (partitiontable.partitions ?? [])
    .map(({ node, start, size }) => ({
      number: Number(/(\d+)$/.exec(node)?.[1]),
      offset: start * sectorBytes,
      sizeBytes: size * sectorBytes,
    }))
    .sort((a, b) => a.number - b.number)
}

/** What lies in each part of a disk, or on the whole of one without parts. Throws Failure `disk-error`. */
export async function volumesOf(
  disk: { readonly path: string; readonly sizeBytes: number },
  only: number | undefined,
  signal: AbortSignal,
): Promise<readonly Volume[]> {
  const partitions = await partitionsOf(disk.path, signal)
  const parts = partitions
    .filter(({ number }) => only === undefined || number === only)
    .map(({ number, ...range }) => ({ place: `partition ${number}`, ...range }))
  const places = parts.length > 0 ? parts : [{ place: 'the whole disk', offset: 0, sizeBytes: disk.sizeBytes }]
  const volumes: Volume[] = []
  for (const place of places) volumes.push({ ...place, type: await typeOf(disk.path, place, signal) })
  return volumes
}

async function typeOf(
  disk: string,
  { offset, sizeBytes }: { readonly offset: number; readonly sizeBytes: number },
  signal: AbortSignal,
): Promise<string | undefined> {
  const range = ['--offset', String(offset), '--size', String(sizeBytes)]
  const { stdout } = await run('blkid', ['--probe', '--output', 'value', '--match-tag', 'TYPE', ...range, disk], signal)
  return stdout.trim() || undefined
}

/** How each is mounted so that nothing is written to it, not even its own journal. */
const readOnlyOptions: Readonly<Record<string, string>> = {
  ext2: 'ro',
  ext3: 'ro,noload',
  ext4: 'ro,noload',
  xfs: 'ro,norecovery,nouuid',
  btrfs: 'ro,rescue=nologreplay',
}

/** True for the file systems that a Linux root lies on. */
export function canHoldLinux({ type }: Volume): boolean {
  return type !== undefined && type in readOnlyOptions
}

/** Mounts a volume, runs `work` on the folder, and unmounts it whatever happens. Throws a plain Error when it cannot. */
export async function whileMounted<T>(
  disk: string,
  volume: Volume,
  options: { readonly writable: boolean },
  work: (folder: string) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const type = volume.type ?? ''
  const range = ['--offset', String(volume.offset), '--sizelimit', String(volume.sizeBytes)]
  const access = options.writable ? [] : ['--read-only']
  const loop = await openLoop(disk, [...access, ...range], signal)
  try {
    const folder = await mkdtemp(join(tmpdir(), 'hades-volume-'))
    try {
      const how = options.writable ? (type === 'xfs' ? 'rw,nouuid' : 'rw') : readOnlyOptions[type]
      await mount(['-t', type, '-o', `${how},nosuid,nodev,noexec`, loop.device], folder, signal)
      try {
        return await work(folder)
      } finally {
        await unmount(folder)
      }
    } finally {
      await rmdir(folder)
    }
  } finally {
    await loop.detach()
  }
}

type Result = { readonly failed: boolean; readonly stdout: string; readonly stderr: string }

async function run(command: string, args: readonly string[], signal: AbortSignal): Promise<Result> {
  const options = { cancelSignal: signal, timeout: commandMs, stdin: 'ignore', reject: false } as const
  const result = await execa(command, [...args], options)
  signal.throwIfAborted()
  return { failed: result.failed, stdout: result.stdout, stderr: result.stderr }
}
