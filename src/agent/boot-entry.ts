// Makes UEFI firmware start the disk before the network: the network stays next in the order, for the day when the disk
// does not boot (UEFI 2.10, section 3.1). What firmware really starts is the service's business to observe, so nothing
// here fails a deployment. Needs efibootmgr and a mounted efivarfs.
import { execa } from 'execa'
import { causeChain } from '../model/failure.ts'
import type { EfiSystemPartition } from './gpt.ts'
import { partitionsOf } from './post-install/file-systems.ts'
import { withMounted } from './post-install/find-root.ts'
import { TargetRoot } from './post-install/target-root.ts'

export type BootEntry = {
  /** Four hex digits, as in `Boot0003`. */
  readonly number: string
  readonly label: string
  /** The device path as efibootmgr prints it. */
  readonly path: string
}

export type BootOrder = { readonly order: readonly string[]; readonly entries: readonly BootEntry[] }

/** What to change: `create` an entry for the disk, `remove` entries, put the `order`. */
export type BootChange = {
  readonly create: boolean
  readonly remove: readonly string[]
  readonly order: readonly string[] | undefined
}

const entryLabel = 'HaDeS disk'
/** Firmware writes its variables to flash; some take seconds for one. */
const efibootmgrTimeoutMs = 60_000

/** Where firmware finds a loader on a disk without any entry (UEFI 2.10, section 3.5.1.1). */
const loaderNames: Partial<Record<NodeJS.Architecture, string>> = { x64: 'BOOTX64.EFI', arm64: 'BOOTAA64.EFI' }

/** What distributions call the first program of theirs, in the order in which it is one: shim, or what shim would start. */
const vendorLoaders: Partial<Record<NodeJS.Architecture, readonly string[]>> = {
  x64: ['SHIMX64.EFI', 'GRUBX64.EFI', 'SYSTEMD-BOOTX64.EFI'],
  arm64: ['SHIMAA64.EFI', 'GRUBAA64.EFI', 'SYSTEMD-BOOTAA64.EFI'],
}

/** Folders of an EFI system partition that are looked into, at most. */
const vendorsMax = 64

/**
 * The loader on an EFI system partition, as firmware spells its path: the default one, else that of a distribution, which
 * firmware starts only by an entry. Undefined when there is none.
 */
export async function findLoader(tree: TargetRoot, architecture: NodeJS.Architecture): Promise<string | undefined> {
  const vendors = await tree.list('/EFI')
  const wanted: [folder: string, loader: string][] = []
  const boot = vendors.find((name) => name.toUpperCase() === 'BOOT')
  const byDefault = loaderNames[architecture]
  if (boot !== undefined && byDefault !== undefined) wanted.push([boot, byDefault])
  for (const vendor of vendors.slice(0, vendorsMax)) {
    if (vendor === boot) continue
    for (const loader of vendorLoaders[architecture] ?? []) wanted.push([vendor, loader])
  }
  for (const [folder, loader] of wanted) {
    // FAT does not tell upper from lower case; the tree may be another file system.
    const name = (await tree.list(`/EFI/${folder}`)).find((name) => name.toUpperCase() === loader)
    if (name !== undefined) return `\\EFI\\${folder}\\${name}`
  }
  return undefined
}

/** The loader to start, and a remark where the partition could not be looked into and the default one is taken for it. */
async function loaderOn(
  diskPath: string,
  esp: EfiSystemPartition,
  signal: AbortSignal,
): Promise<{ readonly loader: string; readonly remark: string }> {
  const byDefault = loaderNames[process.arch]
  if (byDefault === undefined) throw new Error(`no default loader is known for ${process.arch}`)
  const partition = (await partitionsOf(diskPath, signal)).find(({ partition }) => partition === esp.number)
  const device = partition?.path ?? `partition ${esp.number} of ${diskPath}`
  const order = { device, filesystem: 'vfat', isReadOnly: true }
  const look = (at: string) => findLoader(new TargetRoot(at), process.arch)
  const found = await withMounted(order, signal, look).catch((error: unknown) => {
    signal.throwIfAborted()
    return error instanceof Error ? error : new Error(String(error))
  })
  if (typeof found === 'string') return { loader: found, remark: '' }
  if (found === undefined) throw new Error(`${device}, the EFI system partition, has no loader that is known`)
  return { loader: `\\EFI\\BOOT\\${byDefault}`, remark: `; not looked into: ${causeChain(found).join(': ')}` }
}

/** Reads what `efibootmgr -v` prints, of version 17 and 18. */
export function parseBootOrder(text: string): BootOrder {
  const order = /^BootOrder: *([0-9A-F,]+)/im.exec(text)?.[1]?.split(',') ?? []
  const entries: BootEntry[] = []
  for (const match of text.matchAll(/^Boot([0-9A-F]{4})[* ] ([^\t\n]*)(?:\t(.*))?$/gim)) {
    const [, number = '', label = '', path = ''] = match
    entries.push({ number: number.toUpperCase(), label: label.trim(), path })
  }
  return { order: order.map((number) => number.toUpperCase()), entries }
}

/**
 * Decides how the disk with system partition `esp` comes first. An entry that starts `loader` from it is kept; entries that earlier deployments made for systems that are gone are removed, or the variable store fills up.
 */
export function decideBootChange({ order, entries }: BootOrder, esp: EfiSystemPartition, loader: string): BootChange {
  const isOurs = (entry: BootEntry) =>
    entry.path.toLowerCase().includes(`gpt,${esp.uuid}`) && entry.path.toUpperCase().includes(loader.toUpperCase())
  const [kept] = entries.filter(isOurs)
  const remove = entries.filter((entry) => entry.label === entryLabel && entry !== kept).map((entry) => entry.number)
  if (kept === undefined) return { create: true, remove, order: undefined }
  const rest = order.filter((number) => number !== kept.number && !remove.includes(number))
  const isFirst = order[0] === kept.number
  return { create: false, remove, order: isFirst ? undefined : [kept.number, ...rest] }
}

/**
 * Puts the disk first and says in words what the order is now. Throws when efibootmgr fails or firmware did not take the
 * change: to be reported, not to fail by.
 */
export async function putDiskFirst(diskPath: string, esp: EfiSystemPartition, signal: AbortSignal): Promise<string> {
  const { loader, remark } = await loaderOn(diskPath, esp, signal)
  const efibootmgr = async (...options: string[]) => {
    const limits = { cancelSignal: signal, timeout: efibootmgrTimeoutMs, stdin: 'ignore' } as const
    return (await execa('efibootmgr', options, limits)).stdout
  }
  const change = decideBootChange(parseBootOrder(await efibootmgr('-v')), esp, loader)
  for (const number of change.remove) await efibootmgr('--bootnum', number, '--delete-bootnum')
  if (change.order !== undefined) await efibootmgr('--bootorder', change.order.join(','))
  if (change.create) {
    const where = ['--disk', diskPath, '--part', String(esp.number), '--loader', loader]
    // --create puts the new entry first in the order.
    await efibootmgr('--create', ...where, '--label', entryLabel)
  }
  const now = parseBootOrder(await efibootmgr('-v'))
  const again = decideBootChange(now, esp, loader)
  if (again.create || again.order !== undefined) {
    throw new Error(`firmware did not take the disk as first entry: its order is ${now.order.join(',') || 'empty'}`)
  }
  const done = change.create ? 'created' : change.order === undefined ? 'was first already' : 'moved to the front'
  return `Boot${now.order[0]} ${done}: ${loader}; order ${now.order.join(',')}${remark}`.slice(0, 190)
}
