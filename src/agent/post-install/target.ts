// The new system as it will be, put together in the scout: its root, and below it the file systems that the setup or the
// system's own fstab mounts there.
import { mkdir, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, posix } from 'node:path'
import { Failure } from '../../model/failure.ts'
import { letGo } from '../mounts.ts'
import type { SeenFileSystem } from './file-systems.ts'
import { type FoundRoot, removeMountFolder } from './find-root.ts'
import { linuxFileSystems, mount } from './mount.ts'
import { TargetRoot } from './target-root.ts'

export type Target = {
  readonly tree: TargetRoot
  readonly root: FoundRoot
  /** Where the other file systems are in the new system, as `/boot/efi`. */
  readonly mounts: readonly { readonly at: string; readonly on: SeenFileSystem }[]
  /** Unmounts everything. Throws Failure `disk-error` when something stays in use. Closing again does nothing. */
  close(): Promise<void>
}

/** Rows of an fstab that are read, at most. */
const fstabRowsMax = 256
const mountable = [...linuxFileSystems, 'vfat']

/** Mounts the system. Throws Failure `post-install-failed`; then nothing stays mounted. */
export async function openTarget(
  root: FoundRoot,
  seen: readonly SeenFileSystem[],
  options: { readonly isReadOnly: boolean },
  signal: AbortSignal,
): Promise<Target> {
  const at = join(await mkdtemp(join(tmpdir(), 'hades-target-')), 'root')
  await mkdir(at)
  const mounted: string[] = []
  const close = async () => {
    for (let path = mounted.at(-1); path !== undefined; path = mounted.at(-1)) {
      await letGo(path)
      mounted.pop()
    }
    await removeMountFolder(at)
  }
  try {
    const { filesystem = '' } = root.on
    const more = root.subvolume && `subvol=${root.subvolume}`
    await mount({ device: root.on.path, filesystem, at, more, ...options }, signal)
    mounted.push(at)
    const tree = new TargetRoot(at)
    const mounts: { at: string; on: SeenFileSystem }[] = []
    for (const below of await mountsBelow(tree, root, seen)) {
      const real = await mountPoint(tree, below.at, options.isReadOnly)
      if (real === undefined) continue
      const { path: device, filesystem: type = '' } = below.on
      await mount({ device, filesystem: type, at: real, more: below.more, ...options }, signal)
      mounted.push(real)
      mounts.push({ at: below.at, on: below.on })
    }
    return { tree, root, mounts, close }
  } catch (error) {
    await close()
    throw error
  }
}

/** The folder to mount at, made where it is missing; a tree that is only looked at stays as it is. */
async function mountPoint(tree: TargetRoot, at: string, isReadOnly: boolean): Promise<string | undefined> {
  if (!isReadOnly) await tree.makeFolder(at)
  const { path, stats } = await tree.locate(at)
  if (stats?.isDirectory() && path !== tree.path) return path
  if (isReadOnly) return undefined
  throw new Failure('post-install-failed', `nothing can be mounted at ${at} of the new system`)
}

type Below = { readonly at: string; readonly on: SeenFileSystem; readonly more?: string | undefined }

/** What the setup mounts below the root, and what the image's own fstab does; the setup's word counts. */
async function mountsBelow(
  tree: TargetRoot,
  root: FoundRoot,
  seen: readonly SeenFileSystem[],
): Promise<readonly Below[]> {
  const below = new Map<string, Below>()
  for (const row of parseFstab((await tree.read('/etc/fstab').catch(() => undefined)) ?? '')) {
    const on = seen.find((one) => isSource(row.source, one))
    if (on === undefined || row.options.includes('noauto') || !mountable.includes(on.filesystem ?? '')) continue
    const subvolume = row.options.find((option) => /^subvol(id)?=/.test(option))
    if (on === root.on && subvolume === undefined) continue
    below.set(row.at, { at: row.at, on, more: subvolume })
  }
  for (const on of seen) {
    const { content } = on.place
    if (on === root.on || content.kind !== 'filesystem' || content.mount === undefined) continue
    if (mountable.includes(on.filesystem ?? '')) below.set(normal(content.mount), { at: content.mount, on })
  }
  below.delete('/')
  const depth = ({ at }: Below) => at.split('/').length
  return [...below.values()].sort((a, b) => depth(a) - depth(b))
}

export type FstabRow = {
  /** As `UUID=...` or `/dev/sda1`. */
  readonly source: string
  readonly at: string
  readonly filesystem: string
  readonly options: readonly string[]
}

/** The rows of an fstab(5) that mount something at a path. */
export function parseFstab(text: string): readonly FstabRow[] {
  return text
    .split('\n', fstabRowsMax)
    .map((line) => line.trim().split(/\s+/))
    .flatMap(([source = '', at = '', filesystem = '', options = '']) =>
      source.startsWith('#') || !at.startsWith('/')
        ? []
        : [{ source: source.replaceAll('"', ''), at: normal(at), filesystem, options: options.split(',') }],
    )
}

/** One spelling for one mount point. */
function normal(path: string): string {
  return posix.normalize(path).replace(/(?<=.)\/$/, '')
}

function isSource(source: string, { uuid, label, partUuid, partLabel }: SeenFileSystem): boolean {
  const [, tag = '', value = ''] = /^([A-Z]+)=(.+)$/.exec(source) ?? []
  const own = { UUID: uuid, LABEL: label, PARTUUID: partUuid, PARTLABEL: partLabel }[tag]
  return own !== undefined && own.toLowerCase() === value.toLowerCase()
}
