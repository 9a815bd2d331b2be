// The QEMU command line of one machine, as a pure function. Device ids are fixed (`net0`, `disk0`, ...) so that the boot
// order can be changed while QEMU runs: QEMU writes the order anew for the firmware at every reset of the machine.
import type { BootOrder, DiskConfig, MachineConfig } from './config.ts'

export type Accelerator = 'kvm' | 'tcg'

export const firmwareCode = '/usr/share/OVMF/OVMF_CODE_4M.fd'
export const firmwareVariables = '/usr/share/OVMF/OVMF_VARS_4M.fd'

/** What the command of one machine needs to know beside its configuration. `folder` is absolute. */
export type QemuPlace = {
  readonly folder: string
  readonly tap: string
  readonly uuid: string
  readonly accel: Accelerator
}

/** Boot index of each bootable device, by id; lower boots earlier. */
export function bootIndexes(machine: MachineConfig, first: BootOrder): ReadonlyMap<string, number> {
  const disks = machine.disks.map((_, index) => `disk${index}`)
  const order = first === 'network' ? ['net0', ...disks] : [...disks, 'net0']
  return new Map(order.map((id, index) => [id, index]))
}

function diskDevice(disk: DiskConfig, id: string, machine: string, portOnBus: number): string[] {
  const serial = `${machine}-d${id.slice('disk'.length)}`
  switch (disk.bus) {
    case 'virtio':
      return ['virtio-blk-pci', `drive=${id}-file`, `serial=${serial}`]
    case 'nvme':
      return ['nvme', `drive=${id}-file`, `serial=${serial}`]
    case 'sata':
      return ['ide-hd', `bus=ide.${portOnBus}`, `drive=${id}-file`, `serial=${serial}`]
    case 'scsi':
      return ['scsi-hd', 'bus=scsi0.0', `scsi-id=${portOnBus}`, `drive=${id}-file`, `serial=${serial}`]
  }
}

function diskArguments(machine: MachineConfig, folder: string, indexes: ReadonlyMap<string, number>): string[] {
  const used = new Map<string, number>()
  const hasScsi = machine.disks.some((disk) => disk.bus === 'scsi')
  return [
    ...(hasScsi ? ['-device', 'virtio-scsi-pci,id=scsi0'] : []),
    ...machine.disks.flatMap((disk, index) => {
      const id = `disk${index}`
      const port = used.get(disk.bus) ?? 0
      used.set(disk.bus, port + 1)
      return [
        '-drive',
        `if=none,id=${id}-file,file=${folder}/${id}.raw,format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap`,
        '-device',
        [...diskDevice(disk, id, machine.name, port), `id=${id}`, `bootindex=${indexes.get(id)}`].join(','),
      ]
    }),
  ]
}

function firmwareArguments(machine: MachineConfig, folder: string): string[] {
  if (machine.firmware === 'bios') return []
  return [
    '-drive',
    `if=pflash,unit=0,format=raw,readonly=on,file=${firmwareCode}`,
    '-drive',
    `if=pflash,unit=1,format=raw,file=${folder}/vars.fd`,
    // Nothing answers DHCPv6 here, and OVMF would wait a minute for it.
    '-fw_cfg',
    'name=opt/org.tianocore/IPv6PXESupport,string=n',
  ]
}

/** Program and arguments that power the machine on with `first` at the head of its boot order. QMP is on stdin and stdout. */
export function qemuCommand(machine: MachineConfig, place: QemuPlace, first: BootOrder): string[] {
  const { folder } = place
  const indexes = bootIndexes(machine, first)
  const rom = machine.rom === 'none' ? ',romfile=' : ''
  return [
    'qemu-system-x86_64',
    '-name',
    `${machine.name},process=lab-${machine.name}`.slice(0, 60),
    '-nodefaults',
    '-no-user-config',
    '-machine',
    'q35,graphics=off',
    ...(place.accel === 'kvm' ? ['-accel', 'kvm', '-cpu', 'host'] : ['-accel', 'tcg,thread=multi', '-cpu', 'qemu64']),
    '-smp',
    '1',
    '-m',
    String(machine.memoryMiB),
    '-display',
    'none',
    '-uuid',
    place.uuid,
    '-smbios',
    `type=1,manufacturer=HaDeS,product=Lab machine,serial=LAB-${machine.name}`,
    '-chardev',
    'stdio,id=qmp,signal=off',
    '-mon',
    'chardev=qmp,mode=control',
    '-chardev',
    `socket,id=console,path=${folder}/console.sock,server=on,wait=off,logfile=${folder}/console.log,logappend=on`,
    '-serial',
    'chardev:console',
    '-device',
    'virtio-rng-pci',
    ...firmwareArguments(machine, folder),
    '-netdev',
    `tap,id=net0-tap,ifname=${place.tap},script=no,downscript=no`,
    '-device',
    `virtio-net-pci,id=net0,netdev=net0-tap,mac=${machine.mac},bootindex=${indexes.get('net0')}${rom}`,
    ...diskArguments(machine, folder, indexes),
  ]
}

/**
 * QMP commands, one a line, that give a running machine the boot order it uses from its next reset on. All indexes are
 * taken back first, because QEMU refuses an index that another device holds.
 */
export function bootOrderCommands(machine: MachineConfig, first: BootOrder): string {
  const indexes = [...bootIndexes(machine, first)]
  const set = (id: string, value: number) =>
    JSON.stringify({
      execute: 'qom-set',
      arguments: { path: `/machine/peripheral/${id}`, property: 'bootindex', value },
    })
  return [...indexes.map(([id]) => set(id, -1)), ...indexes.map(([id, index]) => set(id, index))].join('\n')
}

function shellQuote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}

/** The file that chassis.sh reads: the machine's default order, and for both orders the command and the QMP commands. */
export function machineSettings(machine: MachineConfig, place: QemuPlace): string {
  const lines = [`default_order=${machine.order}`]
  for (const first of ['network', 'disk'] as const) {
    lines.push(`qemu_${first}=(${qemuCommand(machine, place, first).map(shellQuote).join(' ')})`)
    lines.push(`order_${first}=${shellQuote(bootOrderCommands(machine, first))}`)
  }
  return `${lines.join('\n')}\n`
}
