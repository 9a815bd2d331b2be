// What sysfs knows of a disk's identity. The scout runs no udev, and without its database lsblk leaves serial numbers and
// world-wide names out, so that they are read here as udev would.
import { readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'

/** Bound of the contract's labels. */
const labelCharactersMax = 190

export type DiskIdentityFields = { readonly serial?: string; readonly wwn?: string; readonly byPath?: string }

/** Reads what `<sys>/block/<name>` says. Fields that are not there are left out; never throws. */
export async function readDiskIdentity(name: string, sys = '/sys'): Promise<DiskIdentityFields> {
  const at = join(sys, 'block', name)
  const serial =
    // virtio and MMC, then NVMe, then SCSI and ATA, whose page 0x80 has 4 bytes before the number (SPC-4, 7.8.15).
    (await readText(join(at, 'serial'))) ??
    (await readText(join(at, 'device', 'serial'))) ??
    (await readText(join(at, 'device', 'vpd_pg80'), 4))
  const wwid = (await readText(join(at, 'wwid'))) ?? (await readText(join(at, 'device', 'wwid')))
  const wwn = wwid === undefined ? undefined : toWwn(wwid)
  const byPath = await readByPath(name, sys)
  return {
    ...(serial === undefined ? {} : { serial }),
    ...(wwn === undefined ? {} : { wwn }),
    ...(byPath === undefined ? {} : { byPath }),
  }
}

/** `naa.5000c5...` is written `0x5000c5...` by udev, lsblk and people; `eui.` stays. Other kinds are no WWN. */
function toWwn(wwid: string): string | undefined {
  if (wwid.startsWith('naa.')) return `0x${wwid.slice(4)}`
  return wwid.startsWith('eui.') ? wwid : undefined
}

/**
 * The name that udev gives a disk on PCI under /dev/disk/by-path: it says where the disk is plugged in, not which it is.
 * Undefined for what is named by longer rules (SAS behind expanders, USB).
 */
async function readByPath(name: string, sys: string): Promise<string | undefined> {
  const devicePath = await readlink(join(sys, 'block', name)).catch(() => undefined)
  if (devicePath === undefined || /\/(usb\d|expander-|end_device-|session\d)/.test(devicePath)) return undefined
  const pci = [...devicePath.matchAll(/\/([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?=\/)/g)].at(-1)
  if (pci?.[1] === undefined) return undefined
  const place = await placeOnController(name, devicePath, pci.index + pci[0].length, sys)
  return place === undefined ? undefined : `/dev/disk/by-path/pci-${pci[1]}${place}`
}

/** Where on its controller: the kernel counts ports and hosts over the machine, udev over the controller. */
async function placeOnController(
  name: string,
  devicePath: string,
  controllerEnd: number,
  sys: string,
): Promise<string | undefined> {
  if (/\/virtio\d+\/block\//.test(devicePath)) return ''
  if (/\/nvme\/nvme\d+\/nvme/.test(devicePath)) {
    const namespace = await readText(join(sys, 'block', name, 'nsid'))
    return namespace === undefined ? undefined : `-nvme-${namespace}`
  }
  const ata = /\/(ata\d+)\//.exec(devicePath)?.[1]
  if (ata !== undefined) {
    const port = await readText(join(sys, 'class', 'ata_port', ata, 'port_no'))
    return port === undefined ? undefined : `-ata-${port}`
  }
  const scsi = /\/host(\d+)\/target[^/]*\/\d+:(\d+:\d+:\d+)\//.exec(devicePath)
  if (scsi === null) return undefined
  // Hosts hang below the controller, for virtio below one device more.
  const above = devicePath.slice(controllerEnd, scsi.index)
  const siblings = await readdir(join(sys, 'block', devicePath.slice(0, controllerEnd), above)).catch(() => [])
  const hosts = siblings.filter((entry) => /^host\d+$/.test(entry)).map((entry) => Number(entry.slice(4)))
  return `-scsi-${Number(scsi[1]) - Math.min(Number(scsi[1]), ...hosts)}:${scsi[2]}`
}

/** Printable characters of a sysfs file from byte `from`; undefined when there are none. */
async function readText(path: string, from = 0): Promise<string | undefined> {
  const bytes = await readFile(path).catch(() => undefined)
  const text = bytes
    ?.toString('latin1', from)
    .replaceAll(/[^\x20-\x7e]/g, '')
    .trim()
  return text === '' ? undefined : text?.slice(0, labelCharactersMax)
}
