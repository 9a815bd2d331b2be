// What this machine is: processors, memory, disks by identity, network interfaces, and what its firmware says of it.
// Reads lsblk (util-linux) and sysfs; decides nothing.
import { readdir, readFile, readlink } from 'node:fs/promises'
import { cpus, release, totalmem } from 'node:os'
import { basename, join } from 'node:path'
import { execa } from 'execa'
import type { Disk, Inventory } from '../contract/types.ts'
import { isComposed } from './device-tree.ts'
import { readDiskIdentity } from './disk-identity.ts'

/** A disk as it was seen; `notUsable` says why nothing may be written to it now. */
export type SeenDisk = Disk & { readonly notUsable?: string }

/** `problem`: the disks could not be looked at, which is not the same as there being none. */
export type Look = { readonly inventory: Inventory; readonly disks: readonly SeenDisk[]; readonly problem?: unknown }

const lsblkColumns = 'NAME,PATH,SIZE,LOG-SEC,ROTA,TRAN,MODEL,SERIAL,WWN,TYPE,RO,MOUNTPOINTS'
const lsblkTimeoutMs = 60_000
/** Bounds of the contract's `inventory`. */
const labelCharactersMax = 190
const disksMax = 256
const interfacesMax = 256

/** Looks at the machine. Never throws: what sysfs does not say is left out, and a failed lsblk is the `problem`. */
export async function lookAtMachine(signal: AbortSignal): Promise<Look> {
  const [firmware, identity, clockAt, interfaces, seen] = await Promise.all([
    readdir('/sys/firmware/efi').then(
      () => 'uefi' as const,
      () => 'bios' as const,
    ),
    readDmi('/sys/class/dmi/id'),
    readHardwareClock('/sys/class/rtc/rtc0/since_epoch'),
    readInterfaces('/sys/class/net'),
    readDisks(signal).then(
      (disks) => ({ disks }),
      (problem: unknown) => ({ disks: [], problem }),
    ),
  ])
  const processors = cpus()
  const kernel = toLabel(release())
  return {
    ...seen,
    inventory: {
      firmware,
      cpuModel: toLabel(processors[0]?.model) ?? process.arch,
      cpuCount: Math.max(1, processors.length),
      memoryBytes: totalmem(),
      ...identity,
      ...(kernel === undefined ? {} : { kernel }),
      ...(clockAt === undefined ? {} : { clockAt }),
      disks: seen.disks.map(({ notUsable: _notUsable, ...disk }) => disk),
      interfaces,
    },
  }
}

async function readDisks(signal: AbortSignal): Promise<readonly SeenDisk[]> {
  const options = { cancelSignal: signal, timeout: lsblkTimeoutMs, stdin: 'ignore' } as const
  const { stdout } = await execa('lsblk', ['--json', '--bytes', '--output', lsblkColumns], options)
  const identify = async (disk: SeenDisk) => ({ ...(await readDiskIdentity(basename(disk.path))), ...disk })
  return Promise.all(parseLsblk(stdout).map(identify))
}

type BlockDevice = Readonly<Record<string, unknown>> & { readonly children?: readonly BlockDevice[] }

/** RAM, loop, CD, floppy, network and composed devices, and the boot areas of eMMC, are no disks to deploy to. */
const noDisk = /^(ram|zram|loop|sr|fd|nbd|md|dm-|mtdblock)\d|^mmcblk\d+(boot\d+|rpmb)$/

/**
 * The whole disks in lsblk's JSON (`--bytes`, columns as asked for above), in its order. A medium of size 0 is an
 * empty slot. lsblk before 2.39 and after write numbers and flags differently; both are read. Throws on other JSON.
 */
export function parseLsblk(json: string): readonly SeenDisk[] {
  const { blockdevices } = JSON.parse(json) as { blockdevices?: readonly BlockDevice[] }
  if (!Array.isArray(blockdevices)) throw new Error(`lsblk answered without blockdevices: ${json.slice(0, 200)}`)
  return (blockdevices as readonly BlockDevice[])
    .filter((device) => device.type === 'disk' && !noDisk.test(String(device.name)) && Number(device.size) > 0)
    .slice(0, disksMax)
    .map((device) => toDisk(device))
}

function toDisk(device: BlockDevice): SeenDisk {
  const path = String(device.path)
  const notUsable = isTrue(device.ro) ? 'it is read-only' : useOf(device)
  return compact({
    path,
    sizeBytes: Number(device.size),
    sectorBytes: Number(device['log-sec']),
    rotational: isTrue(device.rota),
    transport: toLabel(device.tran),
    model: toLabel(device.model),
    serial: toLabel(device.serial),
    wwn: toLabel(device.wwn),
    notUsable,
  })
}

/**
 * Says what holds the disk or a part of it: a mount, swap, or a device on top of it (crypt, multipath). Arrays and volumes
 * that nobody has mounted are no use of it: they are left from before and are stopped.
 */
function useOf(device: BlockDevice): string | undefined {
  const mounts = [device.mountpoints].flat(2).filter((mount) => typeof mount === 'string')
  if (mounts.length > 0) return `${String(device.path)} is mounted at ${mounts.join(', ')}`
  for (const child of device.children ?? []) {
    const isLooked = child.type === 'part' || isComposed(String(child.type))
    const use = isLooked ? useOf(child) : `${String(device.path)} holds ${String(child.path)}`
    if (use !== undefined) return use
  }
  return undefined
}

/** The clock that the next system starts with; stage 1 has set the kernel's own by the service's. */
async function readHardwareClock(file: string): Promise<string | undefined> {
  const seconds = Number((await readLabel(file)) ?? Number.NaN)
  // The last moment that a date and time of four digits can tell.
  return seconds >= 0 && seconds < 253_402_300_800 ? new Date(seconds * 1000).toISOString() : undefined
}

async function readDmi(folder: string): Promise<Pick<Inventory, 'vendor' | 'product' | 'serial' | 'uuid'>> {
  const [vendor, product, serial, uuid] = await Promise.all(
    ['sys_vendor', 'product_name', 'product_serial', 'product_uuid'].map((name) => readLabel(join(folder, name))),
  )
  return compact({ vendor, product, serial, uuid })
}

/** The network interfaces that are devices: no bridges, tunnels or loopback. */
async function readInterfaces(folder: string): Promise<Inventory['interfaces']> {
  const interfaces: Inventory['interfaces'] = []
  for (const name of await namesIn(folder)) {
    const at = join(folder, name)
    const driver = await readlink(join(at, 'device', 'driver')).then(basename, () => undefined)
    const isDevice = driver !== undefined || (await readlink(join(at, 'device')).catch(() => undefined)) !== undefined
    const mac = await readLabel(join(at, 'address'))
    // InfiniBand addresses have 20 bytes and are no MAC addresses.
    if (!isDevice || mac === undefined || !/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac)) continue
    // An interface that is down answers neither its carrier nor its speed; one without a speed says -1.
    const speed = Number(await readLabel(join(at, 'speed')))
    const carrier = (await readLabel(join(at, 'carrier'))) === '1'
    const speedMbit = Number.isInteger(speed) && speed > 0 ? speed : undefined
    interfaces.push(compact({ name, mac, driver, speedMbit, carrier }))
  }
  return interfaces.slice(0, interfacesMax)
}

/** The names in a folder in the order of their characters; none where there is no such folder. */
async function namesIn(folder: string): Promise<readonly string[]> {
  const names = await readdir(folder).catch(() => [])
  return names.sort((a, b) => (a < b ? -1 : 1))
}

async function readLabel(path: string): Promise<string | undefined> {
  return toLabel(await readFile(path, 'latin1').catch(() => undefined))
}

function toLabel(value: unknown): string | undefined {
  if (typeof value !== 'string') return undefined
  return value.trim().slice(0, labelCharactersMax) || undefined
}

function isTrue(flag: unknown): boolean {
  return flag === true || flag === 1 || flag === '1'
}

type Compact<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>
}

/** Leaves out the fields that are not known. */
function compact<T extends object>(fields: T): Compact<T> {
  // Dropping the undefined fields is what makes the optional form of the type true.
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Compact<T>
}
