// The file-system table of the new system, from the places of the setup.
import type { Place } from '../place.ts'
import { type ActionResult, done, skipped } from './action.ts'
import type { SeenFileSystem } from './file-systems.ts'
import type { TargetRoot } from './target-root.ts'

/** Writes /etc/fstab. Rows of the old one that name no disk (tmpfs, network file systems) stay. */
export async function writeFstab(
  tree: TargetRoot,
  places: readonly Place[],
  seen: readonly SeenFileSystem[],
): Promise<ActionResult> {
  const rows = places.flatMap((place) => rowOf(place, seen) ?? [])
  if (!rows.some(({ at }) => at.startsWith('/'))) {
    return skipped("the setup mounts nothing: the image's own /etc/fstab stays")
  }
  const old = ((await tree.read('/etc/fstab')) ?? '').split('\n')
  const kept = old.filter((line) => /^\s*[^#\s]/.test(line) && !namesDisk(line))
  const dropped = old.filter(namesDisk).length
  const depth = (at: string) => (at === '/' ? 0 : at.split('/').length)
  const lines = rows.sort((a, b) => depth(a.at) - depth(b.at)).map(({ line }) => line)
  const head = '# Written by HaDeS when it deployed this host: file system, mount point, type, options, dump, pass.'
  await tree.write('/etc/fstab', `${[head, ...lines, ...kept].join('\n')}\n`)
  const replaced = dropped === 0 ? '' : `; ${dropped} rows of the image's own disks are gone`
  return done(`/etc/fstab mounts ${rows.map(({ at }) => at).join(', ')}${replaced}`)
}

function namesDisk(line: string): boolean {
  return /^\s*(?:(?:PART)?(?:UUID|LABEL)=|\/dev\/)/.test(line)
}

const defaultOptions: Partial<Record<string, string>> = {
  ext4: 'errors=remount-ro',
  // Whoever can read the ESP can read what starts the machine.
  vfat: 'umask=0077',
}
/** File systems that fsck looks at when the machine starts; XFS and btrfs look after themselves. */
const checked = ['ext4', 'vfat']

type Row = { readonly at: string; readonly line: string }

function rowOf(place: Place, seen: readonly SeenFileSystem[]): Row | undefined {
  const { content } = place
  const found = seen.find((one) => one.place === place && one.partition === undefined)
  const uuid = place.uuid ?? found?.uuid
  const source = uuid === undefined ? place.device.path : `UUID=${uuid}`
  if (content.kind === 'swap') return { at: 'none', line: [source, 'none', 'swap', 'sw', '0', '0'].join(' ') }
  if (content.kind !== 'filesystem' || content.mount === undefined) return undefined
  const { filesystem, mount } = content
  const options = content.options ?? defaultOptions[filesystem] ?? 'defaults'
  const pass = checked.includes(filesystem) ? (mount === '/' ? '1' : '2') : '0'
  return { at: mount, line: [source, mount, filesystem, options, '0', pass].join(' ') }
}
