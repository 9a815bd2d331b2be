// Makes UEFI firmware start the disk before the network: the network stays next in the order, for the day when the disk
// does not boot (UEFI 2.10, section 3.1). What firmware really starts is the service's business to observe, so nothing
// here fails a deployment. Needs efibootmgr and a mounted efivarfs.
import { execa } from 'execa'
import type { EfiSystemPartition } from './gpt.ts'

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
 * Decides how the disk with system partition `esp` comes first. An entry that starts the default loader from it is
 * kept; entries that earlier deployments made for systems that are gone are removed, or the variable store fills up.
 */
export function decideBootChange({ order, entries }: BootOrder, esp: EfiSystemPartition, loader: string): BootChange {
  const isOurs = (entry: BootEntry) =>
    entry.path.toLowerCase().includes(`gpt,${esp.uuid}`) && entry.path.toUpperCase().includes(loader)
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
  const loader = loaderNames[process.arch]
  if (loader === undefined) throw new Error(`no default loader is known for ${process.arch}`)
  const efibootmgr = async (...options: string[]) => {
    const limits = { cancelSignal: signal, timeout: efibootmgrTimeoutMs, stdin: 'ignore' } as const
    return (await execa('efibootmgr', options, limits)).stdout
  }
  const change = decideBootChange(parseBootOrder(await efibootmgr('-v')), esp, loader)
  for (const number of change.remove) await efibootmgr('--bootnum', number, '--delete-bootnum')
  if (change.order !== undefined) await efibootmgr('--bootorder', change.order.join(','))
  if (change.create) {
    const where = ['--disk', diskPath, '--part', String(esp.number), '--loader', `\\EFI\\BOOT\\${loader}`]
    // --create puts the new entry first in the order.
    await efibootmgr('--create', ...where, '--label', entryLabel)
  }
  const now = parseBootOrder(await efibootmgr('-v'))
  const again = decideBootChange(now, esp, loader)
  if (again.create || again.order !== undefined) {
    throw new Error(`firmware did not take the disk as first entry: its order is ${now.order.join(',') || 'empty'}`)
  }
  const done = change.create ? 'created' : change.order === undefined ? 'was first already' : 'moved to the front'
  return `Boot${now.order[0]} ${done}; order ${now.order.join(',')}`.slice(0, 190)
}
