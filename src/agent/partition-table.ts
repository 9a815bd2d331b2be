// Partition tables on a disk: reading the one that is there, writing a new one, adding partitions to it, and waiting until
// the kernel shows them. GPT by sgdisk (gdisk), MBR by sfdisk (util-linux); where everything lies is decided before
// (model/layout-plan.ts).
import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { execa } from 'execa'
import { Failure } from '../model/failure.ts'
import type { DiskTable, PlannedDisk, PlannedPartition, TablePartition } from '../model/layout-plan.ts'
import type { Device } from './place.ts'
import { runTool } from './tool.ts'

const readTimeoutMs = 60_000
/** The kernel shows a partition as it reads the table; what takes longer will not come. */
const nodesMsMax = 10_000
const nodesEveryMs = 50

/** GUIDs of GPT types, and types of MBR, by the words of the setup. */
const partitionTypes: Readonly<Record<string, { readonly gpt: string; readonly mbr: string }>> = {
  linux: { gpt: '0fc63daf-8483-4772-8e79-3d69d8477de4', mbr: '83' },
  esp: { gpt: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b', mbr: 'ef' },
  'bios-boot': { gpt: '21686148-6449-6e6f-744e-656564454649', mbr: '' },
  swap: { gpt: '0657fd6d-a4ab-43c4-84e5-0933c84b4f4f', mbr: '82' },
  msr: { gpt: 'e3c9e316-0b5c-4db8-817d-f92df00215ae', mbr: '' },
  windows: { gpt: 'ebd0a0a2-b9e5-4433-87c0-68b6b72699c7', mbr: '07' },
  raid: { gpt: 'a19d880f-05fc-4d3b-a006-743f0f84911e', mbr: 'fd' },
  lvm: { gpt: 'e6d6d379-f507-44c2-a23c-238f2a3df928', mbr: '8e' },
}

/** The type as a table has it: of a word of the setup, or of what says it exactly already. */
export function typeIn(kind: 'gpt' | 'mbr', type: string): string {
  return partitionTypes[type]?.[kind] ?? type
}

type SfdiskTable = {
  readonly label: string
  readonly firstlba?: number
  readonly lastlba?: number
  readonly sectorsize?: number
  readonly partitions?: readonly { node: string; start: number; size: number; type: string; uuid?: string }[]
}

/** The table in the JSON of `sfdisk --json`. Undefined for kinds that HaDeS does not know. */
export function parseTable(json: string, device: Device): DiskTable | undefined {
  const { partitiontable: table } = JSON.parse(json) as { partitiontable: SfdiskTable }
  const kind = { gpt: 'gpt', dos: 'mbr' }[table.label] as DiskTable['kind'] | undefined
  if (kind === undefined) return undefined
  const sectorBytes = table.sectorsize ?? device.sectorBytes
  const end = kind === 'gpt' ? (table.lastlba ?? 0) + 1 : Math.floor(device.sizeBytes / sectorBytes)
  return {
    kind,
    usableOffset: (table.firstlba ?? 1) * sectorBytes,
    usableEnd: Math.min(end, kind === 'mbr' ? 2 ** 32 : end) * sectorBytes,
    partitions: (table.partitions ?? []).map(({ node, start, size, type, uuid }) => ({
      number: Number(/(\d+)$/.exec(node)?.[1]),
      offset: start * sectorBytes,
      length: size * sectorBytes,
      type: type.toLowerCase().padStart(2, '0'),
      uuid: uuid?.toLowerCase(),
    })),
  }
}

/** An extended partition of an MBR holds others. */
const extendedTypes = ['05', '0f', '85']

/** What contradicts itself in a table, in words; undefined when nothing does. */
export function faultOf({ partitions }: Pick<DiskTable, 'partitions'>, diskBytes: number): string | undefined {
  const real = partitions.filter(({ type }) => !extendedTypes.includes(type))
  const sorted = [...real].sort((a, b) => a.offset - b.offset)
  for (const [index, one] of sorted.entries()) {
    if (one.offset + one.length > diskBytes) return `partition ${one.number} ends behind the end of the disk`
    const next: TablePartition | undefined = sorted[index + 1]
    if (next !== undefined && next.offset < one.offset + one.length) {
      return `partitions ${one.number} and ${next.number} overlap`
    }
  }
  return undefined
}

/**
 * The table of a disk; undefined when there is none. Throws Failure `disk-none` when there is one that is damaged, and
 * `disk-error` when the disk cannot be read.
 */
export async function readTable(device: Device, signal: AbortSignal): Promise<DiskTable | undefined> {
  const { path } = device
  const options = { cancelSignal: signal, timeout: readTimeoutMs, stdin: 'ignore', reject: false } as const
  const read = await execa('sfdisk', ['--json', path], options)
  signal.throwIfAborted()
  if (read.failed && /does not contain a recognized partition table/.test(read.stderr)) return undefined
  if (read.failed) throw new Failure('disk-error', `read the partition table of ${path}`, { cause: read })
  const damaged = (how: string) => new Failure('disk-none', `the partition table of ${path} is damaged: ${how}`)
  if (/corrupt|invalid|mismatch/i.test(read.stderr)) throw damaged(read.stderr.trim())
  const table = parseTable(read.stdout, device)
  if (table === undefined) return undefined
  const [only] = table.partitions
  if (table.kind === 'mbr' && only?.type === 'ee') {
    throw damaged('there is the mark of a GPT, and neither of its two copies can be read')
  }
  const fault = faultOf(table, device.sizeBytes)
  if (fault !== undefined) throw damaged(fault)
  if (table.kind === 'gpt') {
    const { stdout } = await runTool(`verify the GPT of ${path}`, ['sgdisk', '--verify', path], { signal })
    const problems = problemsOf(stdout)
    if (problems.length > 0) throw damaged(problems.join('; '))
  }
  return table
}

/** What `sgdisk --verify` finds, but for a backup that is not at the end: the disk has grown, and nothing is lost. */
export function problemsOf(verified: string): string[] {
  const paragraphs = verified.split(/\n\s*\n/).map((text) => text.replaceAll(/\s+/g, ' ').trim())
  return paragraphs.filter((text) => text.startsWith('Problem:') && !/self-pointer|end of the disk/i.test(text))
}

/** The options of sgdisk that add these partitions. */
export function gptOptions(partitions: readonly PlannedPartition[], sectorBytes: number): string[] {
  const rows = partitions.filter(({ isNew }) => isNew)
  return rows.flatMap(({ partition, offset, length }) => {
    const { number, type, label, uuid } = partition
    return [
      `--new=${number}:${offset / sectorBytes}:${(offset + length) / sectorBytes - 1}`,
      `--typecode=${number}:${typeIn('gpt', type)}`,
      ...(label === undefined ? [] : [`--change-name=${number}:${label}`]),
      ...(uuid === undefined ? [] : [`--partition-guid=${number}:${uuid}`]),
    ]
  })
}

/** A line of sfdisk's script for each of these partitions. */
export function mbrLines(path: string, partitions: readonly PlannedPartition[], sectorBytes: number): string[] {
  const rows = partitions.filter(({ isNew }) => isNew)
  return rows.map(({ partition, offset, length }) => {
    const sectors = `start=${offset / sectorBytes}, size=${length / sectorBytes}`
    return `${path}-part${partition.number} : ${sectors}, type=${typeIn('mbr', partition.type)}`
  })
}

/** Writes the planned table, or adds to the one that is kept. Throws Failure `disk-error`. */
export async function writeTable(device: Device, planned: PlannedDisk, signal: AbortSignal): Promise<void> {
  const { path, sectorBytes } = device
  const { table, partitions } = planned
  const isKept = planned.disk.table === 'keep'
  if (isKept && !partitions.some(({ isNew }) => isNew)) return
  const what = isKept ? `add partitions to the table of ${path}` : `write a new partition table to ${path}`
  if (table === 'gpt') {
    // The alignment of what is not on a MiB is not sgdisk's to change; the backup of a grown disk goes to its end.
    const first = ['--set-alignment=1', isKept ? '--move-second-header' : '--clear']
    await runTool(what, ['sgdisk', ...first, ...gptOptions(partitions, sectorBytes), path], { signal })
    return
  }
  const quiet = ['--quiet', '--no-reread', '--no-tell-kernel', '--wipe', 'never', '--wipe-partitions', 'never']
  const { stdout: head } = isKept
    ? await runTool(`read the table of ${path}`, ['sfdisk', '--dump', path], { signal })
    : { stdout: 'label: dos' }
  const input = [head, ...mbrLines(path, partitions, sectorBytes), ''].join('\n')
  await runTool(what, ['sfdisk', ...quiet, path], { signal, input })
}

/**
 * Makes the kernel read the table of a disk that nobody has open, and waits for each of the partitions. Gives their
 * devices by number. Throws Failure `disk-error` when one is missing or lies elsewhere.
 */
export async function findPartitions(
  device: Device,
  partitions: readonly PlannedPartition[],
  signal: AbortSignal,
): Promise<ReadonlyMap<number, Device>> {
  const { path, sectorBytes } = device
  const endMs = performance.now() + nodesMsMax
  for (;;) {
    // The first drops what the old table had; the second also works where the kernel itself reads no tables.
    await execa('blockdev', ['--rereadpt', path], { cancelSignal: signal, stdin: 'ignore', reject: false })
    const told = await execa('partx', ['--update', path], { cancelSignal: signal, stdin: 'ignore', reject: false })
    signal.throwIfAborted()
    const seen = await partitionsInSysfs(path)
    const isThere = (one: PlannedPartition) => {
      const found = seen.get(one.partition.number)
      return found?.offset === one.offset && found.length === one.length
    }
    const missing = partitions.find((one) => !isThere(one))
    if (missing === undefined) {
      const found = partitions.map(({ partition: { number }, length }): [number, Device] => {
        return [number, { path: seen.get(number)?.path ?? '', sizeBytes: length, sectorBytes }]
      })
      for (const [, { path }] of found) await makeNode(path, signal)
      return new Map(found)
    }
    if (performance.now() > endMs) {
      const words = `the kernel does not show partition ${missing.partition.number} of ${path} where the table has it`
      throw new Failure('disk-error', words, told.failed ? { cause: told } : {})
    }
    await delay(nodesEveryMs, undefined, { signal })
  }
}

/** The device of one partition, as the kernel shows it; undefined when it does not. */
export async function pathOfPartition(disk: string, number: number): Promise<string | undefined> {
  return (await partitionsInSysfs(disk)).get(number)?.path
}

type SeenPartition = { readonly path: string; readonly offset: number; readonly length: number }

async function partitionsInSysfs(path: string): Promise<ReadonlyMap<number, SeenPartition>> {
  const folder = join('/sys/class/block', basename(await realpath(path)))
  const found = new Map<number, SeenPartition>()
  for (const name of await readdir(folder)) {
    const read = async (field: string) => Number(await readFile(join(folder, name, field), 'utf8').catch(() => 'none'))
    const number = await read('partition')
    if (Number.isNaN(number)) continue
    // sysfs counts in 512 bytes whatever the disk does.
    const [start, size] = [await read('start'), await read('size')]
    found.set(number, { path: join('/dev', name), offset: start * 512, length: size * 512 })
  }
  return found
}

/** devtmpfs makes the nodes as the kernel finds partitions; where it is not mounted, they are made here. */
async function makeNode(path: string, signal: AbortSignal): Promise<void> {
  const isThere = await stat(path).then(
    (node) => node.isBlockDevice(),
    () => false,
  )
  if (isThere) return
  const numbers = (await readFile(join('/sys/class/block', basename(path), 'dev'), 'utf8')).trim().split(':')
  await runTool(`make the device node ${path}`, ['mknod', path, 'b', ...numbers], { signal })
}
