// Lets the last partition that an image brought, and its file system, take what is free behind it. The table and ext are
// changed before anything is mounted; XFS and btrfs only grow while they are mounted.
import { readFile, realpath } from 'node:fs/promises'
import { basename } from 'node:path'
import { Failure } from '../../model/failure.ts'
import type { Place } from '../place.ts'
import { type ActionResult, done, skipped } from './action.ts'
import { run } from './command.ts'
import { identify, isWholeDisk, partitionsOf, updatePartitions } from './file-systems.ts'
import { withMounted } from './find-root.ts'

/** A check of a whole file system comes before its growth. */
const growTimeoutMs = 1_800_000
/** Less than this behind a partition is alignment, not space. */
const worthBytes = 2 * 1024 * 1024

/** Grows what each image left room behind. Throws Failure `post-install-failed`. */
export async function growImages(places: readonly Place[], signal: AbortSignal): Promise<ActionResult> {
  const said: string[] = []
  let grown = 0
  for (const place of places.filter(({ content }) => content.kind === 'image')) {
    const { path } = place.device
    const partitions = isWholeDisk(place) ? await partitionsOf(path, signal) : []
    // By where it lies: cloud images give the root, at the end, the number 1.
    const last = partitions.toSorted((a, b) => a.start - b.start).at(-1)
    const before = last === undefined ? undefined : await growPartition(path, last, signal)
    const device = last?.path ?? path
    // Without a partition that grew there is nothing new for its file system, unless the image fills a larger place.
    const result = last !== undefined && before === undefined ? undefined : await growFileSystem(device, signal)
    if (last !== undefined && before === undefined) said.push(`nothing is free behind ${last.path}`)
    if (before !== undefined) said.push(`${last?.path} grew from ${before} to ${await sizeBytesOf(device)} bytes`)
    if (result !== undefined) said.push(result)
    if (before !== undefined || (result !== undefined && last === undefined)) grown++
  }
  if (said.length === 0) return skipped('no place of the setup holds an image')
  return grown > 0 ? done(said.join('; ')) : skipped(said.join('; '))
}

/** Its size before, or undefined when there was no room. The backup of a GPT moves to the end of the disk. */
async function growPartition(
  disk: string,
  { path, partition }: { readonly path: string; readonly partition: number },
  signal: AbortSignal,
): Promise<number | undefined> {
  const table = JSON.parse(
    await run(`read the partition table of ${disk}`, ['sfdisk', '--json', disk], signal),
  ) as Table
  const rows = table.partitiontable.partitions ?? []
  const own = rows.find(({ node }) => node === path)
  if (own === undefined)
    throw new Failure('post-install-failed', `${path} cannot grow: it is not in the table of ${disk}`)
  if (table.partitiontable.label === 'dos' && partition > 4) {
    throw new Failure('post-install-failed', `${path} cannot grow: it is a logical partition of an MBR`)
  }
  const sectorBytes = table.partitiontable.sectorsize ?? 512
  const before = own.size * sectorBytes
  const tail = table.partitiontable.label === 'gpt' ? 34 * sectorBytes : 0
  if ((await sizeBytesOf(disk)) - tail - (own.start + own.size) * sectorBytes < worthBytes) return undefined
  // Type, GUID, name and attributes stay; an empty start and `+` mean: the same start, all that is free.
  const command = ['sfdisk', '--no-reread', '--no-tell-kernel', '-N', String(partition), disk]
  await run(`let ${path} grow`, command, signal, { input: ', +\n' })
  await updatePartitions(disk, signal)
  return before
}

type Table = {
  readonly partitiontable: {
    readonly label: string
    readonly sectorsize?: number
    readonly partitions?: readonly { readonly node: string; readonly start: number; readonly size: number }[]
  }
}

async function sizeBytesOf(device: string): Promise<number> {
  // sysfs counts sectors of 512 bytes whatever the disk's are.
  return Number(await readFile(`/sys/class/block/${basename(await realpath(device))}/size`, 'latin1')) * 512
}

/** What grew, in words. */
async function growFileSystem(device: string, signal: AbortSignal): Promise<string> {
  const { filesystem = 'nothing known' } = await identify(device, signal)
  const options = { timeoutMs: growTimeoutMs }
  switch (filesystem) {
    case 'ext2':
    case 'ext3':
    case 'ext4':
      // Exit code 1: it was repaired. An image that was taken while mounted has a journal to be replayed.
      await run(`check ${device}`, ['e2fsck', '-f', '-p', device], signal, { ...options, fine: [1] })
      await run(`let the ${filesystem} on ${device} grow`, ['resize2fs', device], signal, options)
      break
    case 'xfs':
    case 'btrfs':
      await withMounted({ device, filesystem, isReadOnly: false }, signal, async (at) => {
        const grow = filesystem === 'xfs' ? ['xfs_growfs', at] : ['btrfs', 'filesystem', 'resize', 'max', at]
        await run(`let the ${filesystem} on ${device} grow`, grow, signal, options)
      })
      break
    case 'swap':
      // Its size is in its header, with UUID and label, which stay as they are.
      return `the swap area on ${device} keeps its size`
    default:
      throw new Failure('post-install-failed', `${device} holds ${filesystem}, which cannot be made to grow here`)
  }
  return `the ${filesystem} on it fills it`
}
