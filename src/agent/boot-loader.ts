// Installs GRUB for a system whose files were unpacked, which brings no boot loader onto the disk: by the system's own
// programs where it has them, so that it can keep it up to date, else by the scout's with a menu of the kernels found.
// BIOS: in the gap or the BIOS boot partition of every disk that the system lies on. UEFI: in the EFI system partition at
// the path that firmware looks for by itself (UEFI 2.10, section 3.5.1.1).
import { mkdir, mkdtemp, readdir, readFile, rm, rmdir, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Failure } from '../model/failure.ts'
import { fileSystemTypes, type Layout, placesOf } from '../model/layout.ts'
import { bringIn, letGo, whileMounted } from './mounts.ts'
import type { Place } from './place.ts'
import { readSignature } from './signature.ts'
import { runTool } from './tool.ts'

export type Firmware = 'bios' | 'uefi'

const installTimeoutMs = 300_000
const menuSeconds = 2
const targets = { bios: 'i386-pc', uefi: 'x86_64-efi' } as const satisfies Record<Firmware, string>
/** Where the new system mounts its EFI system partition, unless the setup says otherwise. */
const usualEfiFolders = ['/boot/efi', '/efi', '/boot'] as const

/** The place of the root file system: what the setup says, else what is mounted at `/`, else the only partition that gets an image. */
export function rootPlaceOf(layout: Layout, root: string | undefined): string | undefined {
  if (root !== undefined) return root
  const places = placesOf(layout)
  const mounted = places.find(({ content }) => content.kind === 'filesystem' && content.mount === '/')
  const images = places.filter(({ content }) => content.kind === 'image')
  return mounted?.place ?? (images.length === 1 ? images[0]?.place : undefined)
}

/** The disks that a place lies on, through arrays and volume groups. */
export function disksUnder(layout: Layout, place: string): string[] {
  const [base = ''] = place.split(/[:/]/)
  if (layout.disks.some(({ name }) => name === base)) return [base]
  const members = placesOf(layout).filter(({ content }) => content.kind === 'member' && content.of === base)
  return [...new Set(members.flatMap((member) => disksUnder(layout, member.place)))]
}

/** Before anything is written. Throws Failure `disk-none` with why no boot loader could be installed afterwards. */
export function checkBootLoader(layout: Layout, root: string | undefined, firmware: Firmware): void {
  const problem = problemOfBootLoader(layout, root, firmware)
  if (problem !== undefined) throw new Failure('disk-none', problem)
}

/** Why no boot loader could be installed; undefined when one could. */
export function problemOfBootLoader(layout: Layout, root: string | undefined, firmware: Firmware): string | undefined {
  const place = rootPlaceOf(layout, root)
  if (place === undefined)
    return 'the setup asks for a boot loader and does not say where the root is: give post-install a `root`'
  const names = disksUnder(layout, place)
  // What is in a kept table is known when it was read.
  const isKept = layout.disks.some(({ name, table }) => names.includes(name) && table === 'keep')
  if (firmware === 'uefi') {
    if (isKept || espOf(layout) !== undefined) return undefined
    return 'this machine has UEFI firmware: a boot loader needs an EFI system partition, a vfat with a mount in the setup'
  }
  const disk = layout.disks.find(({ name, table, partitions }) => {
    const isGpt = names.includes(name) && table === 'gpt'
    return isGpt && !partitions.some(({ type }) => type === 'bios-boot')
  })
  return (
    disk && `this machine has BIOS firmware: a boot loader on the GPT of \`${disk.name}\` needs a bios-boot partition`
  )
}

function espOf(layout: Layout): { readonly place: string; readonly mount: string } | undefined {
  const mounted = placesOf(layout).flatMap(({ place, content }) => {
    const isVfat = content.kind === 'filesystem' && content.filesystem === 'vfat' && content.mount !== undefined
    return isVfat && content.mount !== undefined ? [{ place, mount: content.mount }] : []
  })
  return mounted.find(({ mount }) => usualEfiFolders.some((usual) => usual === mount)) ?? mounted[0]
}

/** Mounts the new system and installs its boot loader; says in words what was done. */
export async function mountAndInstall(
  work: Pick<BootLoaderWork, 'layout' | 'firmware'> & {
    readonly root: string | undefined
    readonly places: readonly Place[]
    /** The EFI system partition that is there, for a setup that keeps it. */
    readonly esp: string | undefined
  },
  signal: AbortSignal,
): Promise<string> {
  const { layout, firmware } = work
  const name = rootPlaceOf(layout, work.root)
  const efi = firmware === 'uefi' ? efiPlace(work) : undefined
  const places = efi === undefined ? work.places : [...work.places.filter((place) => place.name !== efi.name), efi]
  const found = places.find((place) => place.name === name)
  if (found === undefined) throw new Failure('bad-input', `the root \`${name}\` is no place of the setup`)
  const rootPlace = found.content.kind === 'filesystem' ? found : await asFileSystem(found, signal)
  const folder = await mkdtemp(join(tmpdir(), 'hades-boot-'))
  const install = () =>
    installBootLoader({ root: folder, rootPlace, places, layout, firmware, efi: efi && mountOf(efi) }, signal)
  try {
    return await whileMounted({ places, top: rootPlace, folder }, install, signal)
  } finally {
    await rmdir(folder).catch(() => undefined)
  }
}

/** The EFI system partition of the new system: of the setup, or the one that it keeps. */
function efiPlace({
  layout,
  places,
  esp,
}: Pick<Parameters<typeof mountAndInstall>[0], 'layout' | 'places' | 'esp'>): Place {
  const own = places.find(({ name }) => name === espOf(layout)?.place)
  if (own !== undefined) return own
  if (esp === undefined) {
    throw new Failure(
      'bad-input',
      'this machine has UEFI firmware, and no disk of the setup has an EFI system partition',
    )
  }
  const content = { kind: 'filesystem', filesystem: 'vfat', mount: usualEfiFolders[0] } as const
  return { name: 'esp', content, device: { path: esp, sizeBytes: 0, sectorBytes: 512 } }
}

function mountOf({ content }: Place): string | undefined {
  return content.kind === 'filesystem' ? content.mount : undefined
}

/** What an image brought, as the file system that it turns out to be. */
async function asFileSystem(place: Place, signal: AbortSignal): Promise<Place> {
  const { type, uuid } = await readSignature(place.device.path, signal)
  const filesystem = fileSystemTypes.find((known) => known === type)
  if (filesystem === undefined || uuid === undefined) {
    const words = `\`${place.name}\` holds ${type ?? 'nothing that is known'}: no boot loader can start a system in it`
    throw new Failure('bad-input', words, { at: 'boot-loader' })
  }
  return { ...place, uuid, content: { kind: 'filesystem', filesystem, mount: '/' } }
}

export type BootLoaderWork = {
  /** The new system, mounted with everything that belongs below it. */
  readonly root: string
  readonly rootPlace: Place
  readonly places: readonly Place[]
  readonly layout: Layout
  readonly firmware: Firmware
  /** Where the EFI system partition is mounted in the new system; on UEFI only. */
  readonly efi?: string | undefined
}

/** Installs it and says in words what was done. Throws Failure `disk-error` or `bad-input`. */
export async function installBootLoader(work: BootLoaderWork, signal: AbortSignal): Promise<string> {
  const { root, layout, rootPlace, places, firmware, efi } = work
  const target = targets[firmware]
  const names = disksUnder(layout, rootPlace.name)
  const disks = places.flatMap(({ disk, name }) =>
    disk && names.includes(name.split(':')[0] ?? '') ? [disk.path] : [],
  )
  const links = await linkByUuid([rootPlace, ...places])
  try {
    const program = await ownProgram(root, target)
    const where = firmware === 'uefi' ? [undefined] : [...new Set(disks)]
    for (const disk of where) {
      const options = (base: string) => [
        `--target=${target}`,
        ...(disk === undefined ? [`--efi-directory=${base}${efi}`, '--removable', '--no-nvram'] : []),
        ...(disk === undefined ? [] : [disk]),
      ]
      const onto = disk ?? `${efi}`
      if (program === undefined) {
        const command = ['grub-install', `--boot-directory=${join(root, 'boot')}`, ...options(root)]
        await runTool(`install GRUB to ${onto}`, command, { signal, timeoutMs: installTimeoutMs })
      } else
        await inSystem(root, `install its own GRUB to ${onto}`, [program.install, '--recheck', ...options('')], signal)
    }
    const menu = program === undefined ? await writeMenu(work, signal) : await ownMenu(root, program, signal)
    return `GRUB for ${target} on ${firmware === 'uefi' ? efi : where.join(', ')}, ${program === undefined ? "the scout's" : "the system's own"}; ${menu}`
  } finally {
    for (const link of links) await rm(link, { force: true })
  }
}

/** GRUB names the root by its UUID only where this link is, which udev makes; the scout has none. */
async function linkByUuid(places: readonly Place[]): Promise<readonly string[]> {
  const folder = '/dev/disk/by-uuid'
  await mkdir(folder, { recursive: true })
  const made: string[] = []
  for (const { uuid, device } of places) {
    if (uuid === undefined) continue
    const link = join(folder, uuid)
    const isNew = await symlink(device.path, link).then(
      () => true,
      () => false,
    )
    if (isNew) made.push(link)
  }
  return made
}

type OwnProgram = { readonly install: string; readonly mkconfig: string; readonly folder: string }

/** The system's own GRUB, where it has the programs and the modules of this firmware. */
async function ownProgram(root: string, target: string): Promise<OwnProgram | undefined> {
  const has = (path: string) => hasFile(join(root, path))
  if (!(await has(`usr/lib/grub/${target}`))) return undefined
  for (const prefix of ['grub', 'grub2']) {
    const found = await Promise.all(['install', 'mkconfig'].map((verb) => has(`usr/sbin/${prefix}-${verb}`)))
    if (!found.every(Boolean)) continue
    return { install: `${prefix}-install`, mkconfig: `${prefix}-mkconfig`, folder: `/boot/${prefix}` }
  }
  return undefined
}

async function hasFile(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  )
}

const kernelFolders = ['/dev', '/proc', '/sys', '/run'] as const

/** Runs a program of the new system in it, with the kernel's own file systems. */
async function inSystem(root: string, what: string, command: readonly string[], signal: AbortSignal): Promise<void> {
  const mounted: string[] = []
  try {
    for (const folder of kernelFolders) {
      const at = join(root, folder)
      await mkdir(at, { recursive: true })
      await bringIn(`mount ${folder} in the new system`, { how: ['--bind', folder], at }, signal)
      mounted.push(at)
    }
    const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
    const chroot = ['chroot', root, '/usr/bin/env', path, 'LC_ALL=C', ...command]
    await runTool(what, chroot, { signal, timeoutMs: installTimeoutMs })
  } finally {
    for (const at of mounted.reverse()) {
      await letGo(at)
    }
  }
}

async function ownMenu(root: string, { mkconfig, folder }: OwnProgram, signal: AbortSignal): Promise<string> {
  const file = `${folder}/grub.cfg`
  await inSystem(root, 'let the new system write its boot menu', [mkconfig, '-o', file], signal)
  return `menu by ${mkconfig}`
}

export type Kernel = { readonly version: string; readonly kernel: string; readonly initrd: string | undefined }

/** The kernels among the names in a /boot, the newest first, each with its initial RAM disk as distributions name it. */
export function kernelsIn(names: readonly string[]): readonly Kernel[] {
  const kernels = names.flatMap((kernel) => {
    const version = /^(?:vmlinuz|vmlinux|kernel)-(.+)$/.exec(kernel)?.[1]
    if (version === undefined) return []
    const initrds = [`initrd.img-${version}`, `initramfs-${version}.img`, `initrd-${version}`, `initramfs-${version}`]
    return [{ version, kernel, initrd: initrds.find((name) => names.includes(name)) }]
  })
  return kernels.sort((a, b) => b.version.localeCompare(a.version, 'en', { numeric: true }))
}

/** A menu with a line for each kernel, which finds its root by UUID. `prefix` is the folder of the kernels as GRUB sees it. */
export function menuOf(
  kernels: readonly Kernel[],
  { prefix, rootUuid, options }: { readonly prefix: string; readonly rootUuid: string; readonly options: string },
): string {
  const entries = kernels.map(({ version, kernel, initrd }) => {
    const linux = `  linux ${prefix}/${kernel} root=UUID=${rootUuid} ${options}`.trimEnd()
    const lines = [`menuentry 'Linux ${version}' {`, linux, ...(initrd ? [`  initrd ${prefix}/${initrd}`] : []), '}']
    return lines.join('\n')
  })
  return `set timeout=${menuSeconds}\n${entries.join('\n')}\n`
}

/** The kernel arguments that the system's own settings of GRUB have. */
export function argumentsIn(settings: string): string {
  const value = (name: string) => new RegExp(`^${name}=(["']?)(.*)\\1\\s*$`, 'm').exec(settings)?.[2] ?? ''
  return `${value('GRUB_CMDLINE_LINUX')} ${value('GRUB_CMDLINE_LINUX_DEFAULT')}`.replaceAll(/\s+/g, ' ').trim()
}

async function writeMenu(work: BootLoaderWork, signal: AbortSignal): Promise<string> {
  signal.throwIfAborted()
  const { root, rootPlace, places, layout } = work
  const boot = join(root, 'boot')
  const file = join(boot, 'grub/grub.cfg')
  const isImage = placesOf(layout).some(({ place, content }) => place === rootPlace.name && content.kind === 'image')
  // The menu of an image names the file system that came with it; one among unpacked files names another.
  if (isImage && (await hasFile(file))) return "the image's own menu"
  const kernels = kernelsIn(await readdir(boot).catch(() => []))
  if (kernels.length === 0) {
    throw new Failure('bad-input', 'the new system has no kernel in /boot: nothing could be started', {
      at: 'boot-loader',
    })
  }
  if (rootPlace.uuid === undefined) throw new Error('the root file system has no UUID yet')
  const hasOwnBoot = places.some(({ content }) => content.kind === 'filesystem' && content.mount === '/boot')
  const settings = await readFile(join(root, 'etc/default/grub'), 'utf8').catch(() => '')
  const options = `ro ${argumentsIn(settings)}`.trim()
  const menu = menuOf(kernels, { prefix: hasOwnBoot ? '' : '/boot', rootUuid: rootPlace.uuid, options })
  await writeFile(file, menu)
  return `menu of ${kernels.map(({ version }) => version).join(', ')}`
}
