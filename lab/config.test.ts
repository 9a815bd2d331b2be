import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { Failure } from '../src/model/failure.ts'
import { readLabConfig } from './config.ts'

function refusal(text: string): { at: string | undefined; message: string } {
  try {
    readLabConfig(text)
  } catch (error) {
    if (error instanceof Failure && error.code === 'bad-input') return { at: error.at, message: error.message }
    throw error
  }
  throw new Error('this lab file was accepted')
}

const machine = (fields: string) => `machines: [{ name: n01, ${fields} }]`

test('a machine that gives only its name gets everything else', () => {
  const config = readLabConfig('machines: [{ name: n01 }, { name: n02, firmware: uefi }]')
  expect(config).toMatchObject({ network: 'hades-lab', prefixBits: 24, gateway: '10.77.0.1', accel: 'auto' })
  expect(config.machines[0]).toMatchObject({
    name: 'n01',
    firmware: 'bios',
    memoryMiB: 1024,
    disks: [{ sizeBytes: 2 * 1024 ** 3, bus: 'virtio' }],
    address: '10.77.0.11',
    rom: 'ipxe',
    order: 'network',
    bmcAddress: '10.77.0.101',
  })
  expect(config.machines[1]).toMatchObject({ rom: 'none', address: '10.77.0.12', bmcAddress: '10.77.0.102' })
})

test('the derived MAC address is the same for the same names and another for other names', () => {
  const macOf = (network: string, name: string) =>
    readLabConfig(`network: ${network}\nmachines: [{ name: ${name} }]`).machines[0]?.mac
  expect(macOf('a', 'n01')).toMatch(/^52:54:00(:[0-9a-f]{2}){3}$/)
  expect(macOf('a', 'n01')).toBe(macOf('a', 'n01'))
  expect(macOf('a', 'n01')).not.toBe(macOf('a', 'n02'))
  expect(macOf('a', 'n01')).not.toBe(macOf('b', 'n01'))
})

test('the demo file is a lab with one machine of each firmware', () => {
  const config = readLabConfig(readFileSync(new URL('./demo.yaml', import.meta.url), 'utf8'))
  expect(config.machines.map(({ firmware }) => firmware)).toEqual(['bios', 'uefi'])
})

test('every field of the file arrives', () => {
  const config = readLabConfig(`
network: rack-7
subnet: 10.9.0.0/16
accel: tcg
bmc: { username: root, password: calvin }
machines:
  - { name: a, firmware: uefi, memory: 768, disks: [512MiB, { size: 1.5GiB, bus: nvme }, 64], mac: '52:54:00:AB:00:01',
      address: 10.9.3.4, rom: ipxe, order: disk, bmc: 10.9.4.4 }`)
  expect(config).toMatchObject({ network: 'rack-7', prefixBits: 16, accel: 'tcg', bmcUsername: 'root' })
  expect(config.bmcPassword).toBe('calvin')
  expect(config.machines[0]).toEqual({
    name: 'a',
    firmware: 'uefi',
    memoryMiB: 768,
    disks: [
      { sizeBytes: 512 * 1024 ** 2, bus: 'virtio' },
      { sizeBytes: 1536 * 1024 ** 2, bus: 'nvme' },
      { sizeBytes: 64 * 1024 ** 2, bus: 'virtio' },
    ],
    mac: '52:54:00:ab:00:01',
    address: '10.9.3.4',
    rom: 'ipxe',
    order: 'disk',
    bmcAddress: '10.9.4.4',
  })
})

test.each([
  ['network: "Not Good"\nmachines: [{ name: n01 }]', 'network'],
  ['subnet: 10.77.0.1/24\nmachines: [{ name: n01 }]', 'subnet'],
  ['subnet: 10.77.0.0/30\nmachines: [{ name: n01 }]', 'subnet'],
  ['subnet: { a: 1 }\nmachines: [{ name: n01 }]', 'subnet'],
  ['accel: xen\nmachines: [{ name: n01 }]', 'accel'],
  ['bmc: { password: "a b" }\nmachines: [{ name: n01 }]', 'bmc.password'],
  ['bmc: { password: 123456789012345678901 }\nmachines: [{ name: n01 }]', 'bmc.password'],
  ['machines: []', 'machines'],
  ['machines: 3', 'machines'],
  ['{}', 'machines'],
  ['[]', 'file'],
  ['machine: []', 'machine'],
  ['machines: [7]', 'machines[0]'],
  ['machines: [{ firmware: bios }]', 'machines[0].name'],
  ['machines: [{ name: ../../etc }]', 'machines[0].name'],
  ['machines: [{ name: a-name-of-seventeen }]', 'machines[0].name'],
  [machine('firmware: coreboot'), 'machines[0].firmware'],
  [machine('memory: 64'), 'machines[0].memory'],
  [machine('memory: 1GiB'), 'machines[0].memory'],
  [machine('disks: 2GiB'), 'machines[0].disks'],
  [machine('disks: [2GB]'), 'machines[0].disks[0]'],
  [machine('disks: [0.3MiB]'), 'machines[0].disks[0]'],
  [machine('disks: [{ bus: nvme }]'), 'machines[0].disks[0].size'],
  [machine('disks: [1GiB, { size: 1GiB, bus: floppy }]'), 'machines[0].disks[1].bus'],
  [machine(`disks: [${Array(7).fill('{ size: 1GiB, bus: sata }').join(', ')}]`), 'machines[0].disks'],
  [machine('mac: "01:00:5e:00:00:01"'), 'machines[0].mac'],
  [machine('mac: 525400770001'), 'machines[0].mac'],
  [machine('address: 10.78.0.4'), 'machines[0].address'],
  [machine('address: 10.77.0.255'), 'machines[0].address'],
  [machine('address: 10.77.0.1'), 'machines[0].address'],
  [machine('bmc: 10.77.0.11'), 'machines[0].bmc'],
  [machine('order: floppy'), 'machines[0].order'],
  [machine('rom: pxelinux'), 'machines[0].rom'],
  [machine('colour: red'), 'machines[0].colour'],
  ['machines: [{ name: n01 }, { name: n01 }]', 'machines[1].name'],
])('the lab file %j is refused at %s', (text, at) => {
  const refused = refusal(text)
  expect(refused.at).toBe(at)
  expect(refused.message).toContain(at)
})

test('a file that is not YAML is refused as such', () => {
  expect(refusal('machines: [').message).toContain('not YAML')
})
