// The lab file: which machines there are, on which network. Reads the YAML, fills in what was left out, and refuses what
// cannot work with the field and the fix. Everything after this file trusts the values.
import { createHash } from 'node:crypto'
import { parse } from 'yaml'
import { Failure } from '../src/model/failure.ts'

export const diskBuses = ['virtio', 'sata', 'nvme', 'scsi'] as const
export type DiskBus = (typeof diskBuses)[number]

/** What the firmware of a machine tries first when its BMC says nothing else. */
export const bootOrders = ['network', 'disk'] as const
export type BootOrder = (typeof bootOrders)[number]

export type DiskConfig = { readonly sizeBytes: number; readonly bus: DiskBus }

export type MachineConfig = {
  readonly name: string
  readonly firmware: 'bios' | 'uefi'
  readonly memoryMiB: number
  readonly disks: readonly DiskConfig[]
  /** Lower case with colons. */
  readonly mac: string
  /** What the machine's DHCP server is meant to give it. The lab itself gives no addresses. */
  readonly address: string
  /** `ipxe`: QEMU's iPXE option ROM. `none`: on UEFI the firmware's own PXE, on BIOS no network boot at all. */
  readonly rom: 'ipxe' | 'none'
  readonly order: BootOrder
  readonly bmcAddress: string
}

export type LabConfig = {
  /** Also the name of the network namespace. */
  readonly network: string
  readonly prefixBits: number
  /** First address of the subnet: the machine that runs HaDeS. */
  readonly gateway: string
  readonly accel: 'auto' | 'kvm' | 'tcg'
  readonly bmcUsername: string
  /** A random one is made for each lab when the file gives none. */
  readonly bmcPassword: string | undefined
  readonly machines: readonly MachineConfig[]
}

const machinesMax = 64 // The derived addresses (gateway + 10, gateway + 100) would meet beyond.
const memoryMiBMin = 128
const memoryMiBMax = 65_536
const diskBytesMin = 1024 ** 2
const diskBytesMax = 1024 ** 5
const disksMax = { virtio: 8, sata: 6, nvme: 8, scsi: 8 } satisfies Record<DiskBus, number>

type Fields = Readonly<Record<string, unknown>>

function refuse(at: string, says: string): never {
  throw new Failure('bad-input', `lab file: ${at}: ${says}`, { at })
}

/** A scalar as the file has it; anything else as JSON, which no pattern here accepts. */
function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value)
}

function fieldsOf(value: unknown, at: string, known: readonly string[]): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    refuse(at, `give fields: ${known.join(', ')}`)
  for (const key of Object.keys(value)) {
    if (!known.includes(key))
      refuse(at === 'file' ? key : `${at}.${key}`, `no such field; there are ${known.join(', ')}`)
  }
  return value as Fields
}

function oneOf<T extends string>(value: unknown, at: string, choices: readonly T[], otherwise: T): T {
  if (value === undefined) return otherwise
  const found = choices.find((choice) => choice === value)
  return found ?? refuse(at, `is ${JSON.stringify(value)}; choose ${choices.join(' or ')}`)
}

function matching(value: unknown, at: string, pattern: RegExp, says: string): string {
  if (typeof value !== 'string' || !pattern.test(value)) refuse(at, `is ${JSON.stringify(value)}; ${says}`)
  return value
}

function addressNumber(text: string): number | undefined {
  const parts = text.split('.')
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) < 256)) return undefined
  return parts.reduce((sum, part) => sum * 256 + Number(part), 0)
}

function addressText(number: number): string {
  return [24, 16, 8, 0].map((shift) => (number >>> shift) & 255).join('.')
}

type Subnet = { readonly base: number; readonly size: number; readonly prefixBits: number; readonly text: string }

function readSubnet(value: unknown): Subnet {
  const text = textOf(value ?? '10.77.0.0/24')
  const [, address = '', bits = ''] = /^([\d.]+)\/(\d+)$/.exec(text) ?? []
  const base = addressNumber(address)
  const prefixBits = Number(bits)
  const size = 2 ** (32 - prefixBits)
  if (base === undefined || prefixBits < 16 || prefixBits > 24 || base % size !== 0) {
    refuse('subnet', `is ${JSON.stringify(text)}; write a network of 16 to 24 bits, as 10.77.0.0/24`)
  }
  return { base, size, prefixBits, text }
}

/** Bytes of `2GiB`, `512MiB` or a plain number of MiB. */
function readSize(value: unknown, at: string): number {
  const units: Record<string, number> = { MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 }
  const [, count, unit] = /^(\d+(?:\.\d+)?)\s*(MiB|GiB|TiB)$/.exec(textOf(value)) ?? []
  const bytes = typeof value === 'number' ? value * 1024 ** 2 : Number(count) * (units[unit ?? ''] ?? Number.NaN)
  if (!Number.isInteger(bytes) || bytes % 512 !== 0 || bytes < diskBytesMin || bytes > diskBytesMax) {
    refuse(at, `is ${JSON.stringify(value)}; write a size of 1 MiB to 1024 TiB, as 2GiB or 512MiB`)
  }
  return bytes
}

function readDisks(value: unknown, at: string): DiskConfig[] {
  const list = value === undefined ? ['2GiB'] : value
  if (!Array.isArray(list)) refuse(at, 'write a list of sizes, as [2GiB, 512MiB]')
  const disks = list.map((item: unknown, index): DiskConfig => {
    const here = `${at}[${index}]`
    if (typeof item !== 'object') return { sizeBytes: readSize(item, here), bus: 'virtio' }
    const fields = fieldsOf(item, here, ['size', 'bus'])
    return {
      sizeBytes: readSize(fields.size, `${here}.size`),
      bus: oneOf(fields.bus, `${here}.bus`, diskBuses, 'virtio'),
    }
  })
  for (const bus of diskBuses) {
    const count = disks.filter((disk) => disk.bus === bus).length
    if (count > disksMax[bus]) refuse(at, `has ${count} disks on ${bus}, which takes ${disksMax[bus]}`)
  }
  return disks
}

function readAddress(value: unknown, at: string, subnet: Subnet, otherwise: number): string {
  if (value === undefined) return addressText(otherwise)
  const number = addressNumber(textOf(value))
  if (number === undefined || number <= subnet.base || number >= subnet.base + subnet.size - 1) {
    refuse(at, `is ${JSON.stringify(value)}; give an address inside ${subnet.text}`)
  }
  return addressText(number)
}

/** A locally administered address in QEMU's range, the same for the same names. */
function deriveMac(network: string, name: string): string {
  const hex = createHash('sha256').update(`${network}/${name}`).digest('hex')
  return `52:54:00:${hex.slice(0, 2)}:${hex.slice(2, 4)}:${hex.slice(4, 6)}`
}

const machineFields = ['name', 'firmware', 'memory', 'disks', 'mac', 'address', 'rom', 'order', 'bmc']

function readMachine(value: unknown, index: number, network: string, subnet: Subnet): MachineConfig {
  const at = `machines[${index}]`
  const fields = fieldsOf(value, at, machineFields)
  // 16 characters leave room for the number of a disk in a virtio serial of 20.
  const name = matching(
    fields.name,
    `${at}.name`,
    /^[a-z][a-z0-9-]{0,15}$/,
    'use 1 to 16 lower-case letters, digits and dashes',
  )
  const firmware = oneOf(fields.firmware, `${at}.firmware`, ['bios', 'uefi'], 'bios')
  const memoryMiB = fields.memory === undefined ? 1024 : fields.memory
  if (
    typeof memoryMiB !== 'number' ||
    !Number.isInteger(memoryMiB) ||
    memoryMiB < memoryMiBMin ||
    memoryMiB > memoryMiBMax
  ) {
    refuse(`${at}.memory`, `is ${JSON.stringify(memoryMiB)}; give MiB, ${memoryMiBMin} to ${memoryMiBMax}, as 1024`)
  }
  const mac = fields.mac === undefined ? deriveMac(network, name) : textOf(fields.mac).toLowerCase()
  matching(mac, `${at}.mac`, /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/, 'write a unicast address, as 52:54:00:77:00:01')
  return {
    name,
    firmware,
    memoryMiB,
    disks: readDisks(fields.disks, `${at}.disks`),
    mac,
    address: readAddress(fields.address, `${at}.address`, subnet, subnet.base + 11 + index),
    rom: oneOf(fields.rom, `${at}.rom`, ['ipxe', 'none'], firmware === 'bios' ? 'ipxe' : 'none'),
    order: oneOf(fields.order, `${at}.order`, bootOrders, 'network'),
    bmcAddress: readAddress(fields.bmc, `${at}.bmc`, subnet, subnet.base + 101 + index),
  }
}

function refuseTwins(machines: readonly MachineConfig[], gateway: string): void {
  const owners = new Map([[gateway, 'the gateway']])
  for (const [index, machine] of machines.entries()) {
    const claims = { name: machine.name, mac: machine.mac, address: machine.address, bmc: machine.bmcAddress }
    for (const [field, value] of Object.entries(claims)) {
      const owner = owners.get(value)
      if (owner !== undefined) refuse(`machines[${index}].${field}`, `${value} is taken by ${owner}; give another`)
      owners.set(value, machine.name)
    }
  }
}

/** Reads the text of a lab file. Throws Failure `bad-input` with the field at fault in `at`. */
export function readLabConfig(text: string): LabConfig {
  let document: unknown
  try {
    document = parse(text)
  } catch (cause) {
    throw new Failure('bad-input', 'lab file: this is not YAML', { cause })
  }
  const fields = fieldsOf(document, 'file', ['network', 'subnet', 'accel', 'bmc', 'machines'])
  const network = matching(
    fields.network ?? 'hades-lab',
    'network',
    /^[a-z][a-z0-9-]{0,30}$/,
    'use 1 to 31 lower-case letters, digits and dashes',
  )
  const subnet = readSubnet(fields.subnet)
  const gateway = addressText(subnet.base + 1)
  const bmc = fieldsOf(fields.bmc ?? {}, 'bmc', ['username', 'password'])
  if (!Array.isArray(fields.machines) || fields.machines.length === 0 || fields.machines.length > machinesMax) {
    refuse('machines', `list 1 to ${machinesMax} machines, each at least with a name`)
  }
  const machines = fields.machines.map((machine, index) => readMachine(machine, index, network, subnet))
  refuseTwins(machines, gateway)
  return {
    network,
    prefixBits: subnet.prefixBits,
    gateway,
    accel: oneOf(fields.accel, 'accel', ['auto', 'kvm', 'tcg'], 'auto'),
    bmcUsername: matching(
      bmc.username ?? 'admin',
      'bmc.username',
      /^[a-zA-Z][\w-]{0,15}$/,
      'use 1 to 16 letters and digits',
    ),
    // IPMI 2.0 takes 20 bytes; the quotes of ipmi_sim's file know no escape.
    bmcPassword:
      bmc.password === undefined
        ? undefined
        : matching(bmc.password, 'bmc.password', /^[\w.+-]{1,20}$/, 'use 1 to 20 letters, digits and . _ + -'),
    machines,
  }
}
