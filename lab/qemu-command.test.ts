import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readLabConfig } from './config.ts'
import { bootIndexes, bootOrderCommands, machineSettings, qemuCommand } from './qemu-command.ts'

const place = { folder: '/lab/n', tap: 'tap3', uuid: 'adea4002-e68b-4b2e-8ee9-6b03ed184aa0', accel: 'tcg' as const }

function machineOf(fields: string) {
  const [machine] = readLabConfig(`machines: [{ name: n01, ${fields} }]`).machines
  if (machine === undefined) throw new Error('no machine')
  return machine
}

test('a BIOS machine has the iPXE ROM and its network card first', () => {
  const command = qemuCommand(machineOf('mac: "52:54:00:77:00:01"'), place, 'network').join(' ')
  expect(command).toContain('-m 1024')
  expect(command).toContain('-accel tcg,thread=multi -cpu qemu64')
  expect(command).toContain('ifname=tap3,script=no,downscript=no')
  expect(command).toMatch(/virtio-net-pci,id=net0,netdev=net0-tap,mac=52:54:00:77:00:01,bootindex=0( |$)/)
  expect(command).toContain('virtio-blk-pci,drive=disk0-file,serial=n01-d0,id=disk0,bootindex=1')
  expect(command).not.toContain('pflash')
})

test('a UEFI machine has its own variables and, without a ROM, the firmware’s own PXE', () => {
  const command = qemuCommand(machineOf('firmware: uefi'), { ...place, accel: 'kvm' }, 'network').join(' ')
  expect(command).toContain('if=pflash,unit=1,format=raw,file=/lab/n/vars.fd')
  expect(command).toContain('-accel kvm -cpu host')
  expect(command).toMatch(/bootindex=0,romfile= /)
})

test('each bus gets its own devices, ports and serials', () => {
  const disks = ['sata', 'nvme', 'scsi', 'sata'].map((bus) => `{ size: 1GiB, bus: ${bus} }`).join(', ')
  const command = qemuCommand(machineOf(`disks: [${disks}]`), place, 'disk').join(' ')
  expect(command).toContain('ide-hd,bus=ide.0,drive=disk0-file,serial=n01-d0,id=disk0,bootindex=0')
  expect(command).toContain('nvme,drive=disk1-file,serial=n01-d1,id=disk1,bootindex=1')
  expect(command).toContain('scsi-hd,bus=scsi0.0,scsi-id=0,drive=disk2-file,serial=n01-d2,id=disk2,bootindex=2')
  expect(command).toContain('ide-hd,bus=ide.1,drive=disk3-file,serial=n01-d3,id=disk3,bootindex=3')
  expect(command).toContain('id=net0,netdev=net0-tap')
})

test('both boot orders name every device once, without a gap', () => {
  const machine = machineOf('disks: [1GiB, 1GiB]')
  expect([...bootIndexes(machine, 'network')]).toEqual([
    ['net0', 0],
    ['disk0', 1],
    ['disk1', 2],
  ])
  expect([...bootIndexes(machine, 'disk')]).toEqual([
    ['disk0', 0],
    ['disk1', 1],
    ['net0', 2],
  ])
})

test('a change of order takes back every index before it gives one', () => {
  const commands = bootOrderCommands(machineOf('disks: [1GiB]'), 'disk')
    .split('\n')
    .map((line) => JSON.parse(line) as { arguments: { path: string; value: number } })
  expect(commands.map(({ arguments: { path, value } }) => [path, value])).toEqual([
    ['/machine/peripheral/disk0', -1],
    ['/machine/peripheral/net0', -1],
    ['/machine/peripheral/disk0', 0],
    ['/machine/peripheral/net0', 1],
  ])
})

test('the settings come out of a shell as they went in', async () => {
  const machine = machineOf('order: disk')
  const odd = { ...place, folder: "/it's a $(folder) of `mine`" }
  const folder = await mkdtemp(join(tmpdir(), 'hades-lab-'))
  try {
    const file = join(folder, 'machine.bash')
    writeFileSync(file, machineSettings(machine, odd))
    const script = `. "$1"; printf '%s\\0' "$default_order" "$order_network" "\${qemu_network[@]}"`
    const words = execFileSync('bash', ['-euc', script, 'bash', file], { encoding: 'utf8' }).split('\0')
    const command = qemuCommand(machine, odd, 'network')
    expect(words.slice(0, -1)).toEqual(['disk', bootOrderCommands(machine, 'network'), ...command])
  } finally {
    await rm(folder, { recursive: true })
  }
})
