// What a machine said of itself, as lines for people: of a host, and of a machine that nobody has made known yet.
import type { Inventory } from '../contract/types.ts'
import { duration, moment, size } from './output.ts'

/** `at`: when it said so. */
export function inventoryLines(inventory: Inventory, at: string): string[] {
  const age = (Date.now() - Date.parse(at)) / 1000
  return [
    `seen        ${moment(at)}, ${duration(age)} ago`,
    `machine     ${[inventory.vendor, inventory.product, inventory.serial].filter(Boolean).join(' ')}`,
    `            ${inventory.firmware}, ${inventory.cpuCount} x ${inventory.cpuModel}, ${size(inventory.memoryBytes)}`,
    ...inventory.disks.map((disk) => {
      const identity = [disk.model, disk.serial && `serial ${disk.serial}`, disk.wwn && `wwn ${disk.wwn}`]
      return `disk        ${disk.path}  ${size(disk.sizeBytes)}  ${identity.filter(Boolean).join(', ')}`
    }),
    ...inventory.interfaces.map((nic) => `network     ${nic.name}  ${nic.mac}  ${nic.carrier ? 'link' : 'no link'}`),
  ]
}
