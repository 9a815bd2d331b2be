// What lies on the disks of this machine: arrays and volumes that hold a disk, and the names (UUIDs, labels) of file
// systems, which two disks of one machine must not share. The scout runs no udev, without which lsblk knows no names: blkid
// reads them from the disks.
import { execa } from 'execa'
import { Failure } from '../model/failure.ts'
import { readSignature, type Signature } from './signature.ts'

export type DeviceTree = {
  readonly path: string
  /** `disk`, `part`, `raid1`, `lvm`, ... */
  readonly type: string
  readonly children: readonly DeviceTree[]
} & Omit<Signature, 'type'>

const lsblkTimeoutMs = 60_000

/** The trees of these disks. Throws Failure `disk-error` when they cannot be looked at. */
export async function readDeviceTrees(paths: readonly string[], signal: AbortSignal): Promise<readonly DeviceTree[]> {
  if (paths.length === 0) return []
  const options = { cancelSignal: signal, timeout: lsblkTimeoutMs, stdin: 'ignore' } as const
  try {
    // With NAME lsblk prints a tree; without it a list, in which a partition of the target looks like another disk.
    const { stdout } = await execa('lsblk', ['--json', '--output', 'NAME,PATH,TYPE', ...paths], options)
    return await Promise.all(parseDeviceTrees(stdout).map((tree) => withNames(tree, signal)))
  } catch (cause) {
    signal.throwIfAborted()
    throw new Failure('disk-error', `look at what lies on ${paths.join(', ')}`, { cause })
  }
}

async function withNames(tree: DeviceTree, signal: AbortSignal): Promise<DeviceTree> {
  const children: DeviceTree[] = []
  for (const child of tree.children) children.push(await withNames(child, signal))
  const { type: _type, ...names } = await readSignature(tree.path, signal)
  return { ...tree, ...names, children }
}

type Node = Readonly<Record<string, unknown>> & { readonly children?: readonly Node[] }

/** Reads lsblk's JSON of the columns PATH and TYPE. */
export function parseDeviceTrees(json: string): readonly DeviceTree[] {
  const { blockdevices } = JSON.parse(json) as { blockdevices?: readonly Node[] }
  if (!Array.isArray(blockdevices)) throw new Error(`lsblk answered without blockdevices: ${json.slice(0, 200)}`)
  return (blockdevices as readonly Node[]).map(toTree)
}

function toTree(node: Node): DeviceTree {
  return { path: String(node.path), type: String(node.type), children: (node.children ?? []).map(toTree) }
}

/** Arrays and volumes on top of a disk, those that hold others after what they are held by: in the order to stop them. */
export function holdersOf(tree: DeviceTree): readonly DeviceTree[] {
  const own = isComposed(tree.type) ? [tree] : []
  const all = [...tree.children.flatMap(holdersOf), ...own]
  return all.filter(({ path }, index) => all.findIndex((other) => other.path === path) === index)
}

/** True for arrays of md and for volumes of LVM, by lsblk's word for them. */
export function isComposed(type: string): boolean {
  return isArray(type) || type === 'lvm'
}

export function isArray(type: string): boolean {
  return /^(raid\d+|md|linear)$/.test(type)
}

/** A name that a setup gives to what it makes. */
export type FixedName = {
  readonly place: string
  readonly kind: 'uuid' | 'label' | 'partitionUuid'
  readonly name: string
}

/** The first device that has one of the names already; undefined when none has. UUIDs compare without case. */
export function findTwin(
  names: readonly FixedName[],
  trees: readonly DeviceTree[],
): { readonly fixed: FixedName; readonly path: string } | undefined {
  const has = (tree: DeviceTree, { kind, name }: FixedName) =>
    kind === 'label' ? tree.label === name : tree[kind]?.toLowerCase() === name.toLowerCase()
  for (const tree of trees) {
    const fixed = names.find((one) => has(tree, one))
    if (fixed !== undefined) return { fixed, path: tree.path }
    const below = findTwin(names, tree.children)
    if (below !== undefined) return below
  }
  return undefined
}
