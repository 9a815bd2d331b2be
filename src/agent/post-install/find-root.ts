// Which of the file systems on the host's disks is the root of the new system: what the setup says, else the one that is to
// be mounted at `/`, else the only one that looks like a root. Nothing is guessed among several.
import { mkdir, mkdtemp, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Failure } from '../../model/failure.ts'
import { letGo } from '../mounts.ts'
import { nameOf, type SeenFileSystem } from './file-systems.ts'
import { linuxFileSystems, mount } from './mount.ts'
import { TargetRoot } from './target-root.ts'

export type FoundRoot = {
  readonly on: SeenFileSystem
  /** Of btrfs, where the root is not in its default subvolume. */
  readonly subvolume?: string | undefined
}

/** Subvolumes beside the default one that are looked into, at most. */
const subvolumesMax = 64

/** Throws Failure `post-install-failed` when there is none or more than one, with what each looked like. */
export async function findRoot(
  seen: readonly SeenFileSystem[],
  wanted: string | undefined,
  signal: AbortSignal,
): Promise<FoundRoot> {
  const candidates = candidatesFor(seen, wanted)
  const found: FoundRoot[] = []
  const others: string[] = []
  for (const on of candidates) {
    const result = await lookInto(on, signal)
    if (typeof result === 'string') others.push(`${nameOf(on)} ${result}`)
    else found.push(result)
  }
  const [root, second] = found
  const where = wanted === undefined ? '' : ` in ${wanted}`
  if (root !== undefined && second === undefined) return root
  if (root === undefined) {
    const looked = others.length === 0 ? 'there is no file system' : others.join('; ')
    throw new Failure('post-install-failed', `no root of a Linux system was found${where}: ${looked}`)
  }
  const names = found.map(({ on, subvolume }) => `${nameOf(on)}${subvolume === undefined ? '' : ` in ${subvolume}`}`)
  const sentence = `several file systems look like the root of a system${where}: ${names.join('; ')}`
  throw new Failure('post-install-failed', `${sentence}. Say which with \`root\` of post-install`)
}

/** The file systems that the choice is among. */
export function candidatesFor(seen: readonly SeenFileSystem[], wanted: string | undefined): readonly SeenFileSystem[] {
  if (wanted === undefined) {
    const root = seen.find(({ place: { content } }) => content.kind === 'filesystem' && content.mount === '/')
    // What the setup keeps belongs to another system: it is changed only when it is named.
    return root === undefined ? seen.filter(({ place: { content } }) => content.kind !== 'keep') : [root]
  }
  // `system:3` is also partition 3 of the image on the whole disk `system`, which the layout does not name.
  const meant = seen.filter(
    ({ place, partition }) =>
      place.name === wanted || (partition !== undefined && `${place.name}:${partition}` === wanted),
  )
  if (meant.length > 0) return meant
  const names = seen.map(({ place, partition }) =>
    partition === undefined ? place.name : `${place.name}:${partition}`,
  )
  const sentence = `post-install names the root ${wanted}, which holds no file system on this host`
  throw new Failure('post-install-failed', `${sentence}: there are ${names.join(', ') || 'none'}`, { at: 'root' })
}

/** The root in it, or why it is none. Leaves the file system as it is. */
async function lookInto(on: SeenFileSystem, signal: AbortSignal): Promise<FoundRoot | string> {
  const { filesystem } = on
  if (filesystem === undefined) return 'holds no file system'
  if (filesystem === 'crypto_LUKS') return 'is encrypted'
  if (filesystem === 'LVM2_member') return 'is a part of a volume group that came with the image, which is not opened'
  if (!linuxFileSystems.includes(filesystem)) return 'is no file system of a Linux root'
  return await withMounted({ device: on.path, filesystem, isReadOnly: true }, signal, async (at) => {
    const tree = new TargetRoot(at)
    if (await looksLikeRoot(tree, '')) return { on }
    if (filesystem !== 'btrfs') return 'has no /etc or no init'
    const subvolumes: string[] = []
    for (const name of (await tree.list('/')).slice(0, subvolumesMax)) {
      if (await looksLikeRoot(tree, name)) subvolumes.push(name)
    }
    const [subvolume, another] = subvolumes
    if (subvolume === undefined) return 'has no /etc or no init, in no subvolume'
    return another === undefined ? { on, subvolume } : `has several roots: ${subvolumes.join(', ')}`
  })
}

/** Mounts for as long as `work` lasts, at a new folder. */
export async function withMounted<T>(
  order: { readonly device: string; readonly filesystem: string; readonly isReadOnly: boolean },
  signal: AbortSignal,
  work: (at: string) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'hades-look-'))
  const at = join(folder, 'root')
  await mkdir(at)
  try {
    await mount({ ...order, at }, signal)
    try {
      return await work(at)
    } finally {
      await letGo(at)
    }
  } finally {
    await removeMountFolder(at)
  }
}

/** Takes away the folder of a mount and the one around it; where it is still mounted both stay, in the scout's memory. */
export async function removeMountFolder(at: string): Promise<void> {
  await rmdir(at).then(
    () => rmdir(join(at, '..')),
    () => {},
  )
}

const inits = ['sbin/init', 'usr/lib/systemd/systemd', 'lib/systemd/systemd', 'etc/os-release']

async function looksLikeRoot(tree: TargetRoot, below: string): Promise<boolean> {
  if (!(await tree.stat(`${below}/etc`))?.isDirectory()) return false
  // The name is enough: where /usr is a file system of its own, the link leads nowhere yet.
  for (const init of inits) if (await tree.has(`${below}/${init}`)) return true
  return false
}
