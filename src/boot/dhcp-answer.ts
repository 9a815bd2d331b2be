// Who gets which DHCP answer: a pure decision from the message, the host's reservation and the configuration (RFC 2131
// section 4.3; PXE 2.1; RFC 4578). What the machine boots in the end is not decided here: the loader it is sent asks for a
// script, and that is rendered from the boot record. The target only chooses the loader that gets there soonest.
import { dottedIpv4, ipv4Number } from '../lib/ipv4.ts'
import { type BootTarget, partsOf } from '../model/boot.ts'
import type { Loader } from '../model/host.ts'
import { type DhcpMessage, encodeDhcp } from '../protocol/dhcp.ts'
import { type DhcpOptions, subOptions } from '../protocol/dhcp-options.ts'

/** Who speaks: a boot ROM, iPXE, UEFI's HTTP boot, our scout, or any other system that has booted. */
export type ClientKind = 'pxe' | 'ipxe' | 'http-boot' | 'scout' | 'system'
export type ClientArch = 'bios' | 'uefi-x64' | 'uefi-ia32' | 'uefi-arm64' | 'unknown'
export type DhcpClient = { readonly kind: ClientKind; readonly arch: ClientArch }

/** `isRelayed`: it stands on another segment than the server, most likely in another network. */
export type DhcpAsker = { readonly client: DhcpClient; readonly isRelayed: boolean }

/** What the database says of one MAC address. */
export type Reservation = {
  /** Undefined for a machine that is no host and has an address of the pool. */
  readonly host?: string
  readonly hostId?: number
  /** Dotted IPv4. */
  readonly address: string
  /** Also goes into the event, to tell later what the host was to boot. */
  readonly bootTarget: BootTarget
  readonly loader: Loader
  /** In place of the server's. */
  readonly leaseSeconds?: number
}

export type DhcpConfig = {
  /** Our own IPv4 address on the machines' network: the server identifier, and the source of every answer. */
  readonly serverAddress: string
  /** Bits of the network part, 0 to 32. */
  readonly prefixLength: number
  readonly router?: string | undefined
  readonly dns?: readonly string[] | undefined
  readonly domain?: string | undefined
  readonly leaseSeconds: number
  /** As in `http://10.77.0.1:7780`, without a slash at the end. */
  readonly httpBase: string
  /** Dotted IPv4: it also goes into `siaddr`. */
  readonly tftpServer: string
}

/** `reason` says in words why the client does not get what it wants. */
export type DhcpDecision =
  | { readonly answer: 'offer' | 'ack'; readonly reply: DhcpMessage }
  | { readonly answer: 'nak'; readonly reply: DhcpMessage; readonly reason: string }
  | {
      readonly answer: 'none'
      readonly reason: string
      /** The server whose offer it took instead of ours. */
      readonly otherServer?: string
    }

const ethernet = 1
const unset = '0.0.0.0'
/** Every IP host takes a datagram of 576 bytes (RFC 2131 section 2); 28 of them are IP and UDP headers. */
const datagramBytesMin = 576
const headersBytes = 28

/** IANA's processor architecture types (RFC 4578 section 2.1). OVMF and most firmware say 7 for x64; 9 is from an erratum. */
const archOfType: Readonly<Record<number, ClientArch>> = {
  0: 'bios',
  6: 'uefi-ia32',
  7: 'uefi-x64',
  9: 'uefi-x64',
  11: 'uefi-arm64',
  15: 'uefi-ia32',
  16: 'uefi-x64',
  19: 'uefi-arm64',
}

type BootRow = {
  readonly kind: ClientKind
  readonly arch?: ClientArch
  readonly loader?: Loader
  /** For hosts that are to boot a partition of their disk. */
  readonly isPartition?: true
  readonly bootFile: string
}

/**
 * Which boot file a client gets: the first row that fits; a row without `arch` or `loader` fits any. A client that no row
 * fits gets its address and no boot file. A boot target `local` gets its loader too: the script sends it to the disk. A
 * target `local:<partition>` needs GRUB, which UEFI machines get anyway; a BIOS machine that has begun with another loader,
 * because its target was another then, is sent on to GRUB by its script, which takes seconds more.
 */
const bootTable: readonly BootRow[] = [
  // iPXE can also be the card's own ROM (QEMU's is), so it may be sent on to another loader. One that we loaded never is:
  // it was loaded because the host's loader is 'ipxe'.
  { kind: 'ipxe', arch: 'bios', loader: 'pxelinux', bootFile: 'lpxelinux.0' },
  { kind: 'ipxe', arch: 'uefi-x64', loader: 'grub', bootFile: 'grubx64.efi' },
  { kind: 'ipxe', bootFile: '<httpBase>/boot/ipxe/<mac>' },
  { kind: 'pxe', arch: 'bios', loader: 'ipxe', bootFile: 'undionly.kpxe' },
  { kind: 'pxe', arch: 'bios', isPartition: true, bootFile: 'grubpc.0' },
  { kind: 'pxe', arch: 'bios', bootFile: 'lpxelinux.0' },
  { kind: 'pxe', arch: 'uefi-x64', loader: 'ipxe', bootFile: 'snponly.efi' },
  { kind: 'pxe', arch: 'uefi-x64', bootFile: 'grubx64.efi' },
  { kind: 'http-boot', arch: 'uefi-x64', bootFile: '<httpBase>/boot/grubx64.efi' },
]

/** PXE 2.1 section 2.2.2: discovery control (6) bit 3 says: load the boot file named here, look for no other server. */
const pxeNoDiscovery = subOptions([[6, Uint8Array.of(8)]], 'end')
/** iPXE's `no-pxedhcp`: do not wait for a proxyDHCP server, which costs it seconds. */
const ipxeNoProxy = subOptions([[176, Uint8Array.of(1)]], 'no-end')

/** Says who sent this message. iPXE also calls itself a PXE client, so its user class decides first. */
export function classifyClient(message: DhcpMessage): DhcpClient {
  const { userClasses = [], vendorClass = '', architectures = [] } = message.options
  const fromVendorClass = /^(?:PXE|HTTP)Client:Arch:(\d{5})/.exec(vendorClass)?.[1]
  const type = architectures.find((type) => archOfType[type] !== undefined) ?? Number(fromVendorClass ?? Number.NaN)
  return { kind: clientKind(userClasses, vendorClass), arch: archOfType[type] ?? 'unknown' }
}

function clientKind(userClasses: readonly string[], vendorClass: string): ClientKind {
  if (userClasses.includes('iPXE')) return 'ipxe'
  if (vendorClass.startsWith('PXEClient')) return 'pxe'
  if (vendorClass.startsWith('HTTPClient')) return 'http-boot'
  return vendorClass.startsWith('hades-scout') ? 'scout' : 'system'
}

/** The client's MAC address, lower-case with colons; `undefined` when it is not on Ethernet. */
export function macOf(message: DhcpMessage): string | undefined {
  return message.hardwareType === ethernet && message.hardwareAddress.length === 17
    ? message.hardwareAddress
    : undefined
}

/** The boot file's name or URL for this client, or `undefined` when there is none for it. */
export function bootFileFor(
  client: DhcpClient,
  { loader, bootTarget }: Pick<Reservation, 'loader' | 'bootTarget'>,
  mac: string,
  httpBase: string,
): string | undefined {
  const isPartition = partsOf(bootTarget).kind === 'partition'
  return bootTable
    .find(
      (row) =>
        row.kind === client.kind &&
        (row.arch ?? client.arch) === client.arch &&
        (row.loader ?? loader) === loader &&
        (row.isPartition ?? isPartition) === isPartition,
    )
    ?.bootFile.replace('<httpBase>', () => httpBase)
    .replace('<mac>', mac.replaceAll(':', '-'))
}

/** The answer to a message of a host that has a reservation. Throws DhcpError when the configuration fits no packet. */
export function decideDhcp(message: DhcpMessage, reservation: Reservation, config: DhcpConfig): DhcpDecision {
  const { messageType, serverId } = message.options
  switch (messageType) {
    case 'discover':
      return { answer: 'offer', reply: leaseOf(message, 'offer', reservation, config) }
    case 'request': {
      if (serverId !== undefined && serverId !== config.serverAddress) {
        return { answer: 'none', reason: `it took the offer of another server, ${serverId}`, otherServer: serverId }
      }
      return decideRequest(message, reservation, config)
    }
    case 'inform':
      return { answer: 'ack', reply: withinLimit(message, informed(message, reservation, config)) }
    case 'decline':
      return { answer: 'none', reason: `it says that ${message.options.requestedAddress ?? 'its address'} is in use` }
    case 'release':
      return { answer: 'none', reason: `it gives back ${message.clientAddress}` }
    case 'offer':
    case 'ack':
    case 'nak':
      return { answer: 'none', reason: `a client does not send '${messageType}'` }
    case undefined:
      return { answer: 'none', reason: 'it has no DHCP message type (plain BOOTP)' }
  }
}

/** Where the answer goes (RFC 2131 section 4.1): to a port of this role, at this address. */
export function destinationOf(
  message: DhcpMessage,
  reply: DhcpMessage,
): { address: string; role: 'server' | 'client' } {
  if (message.relayAddress !== unset) return { address: message.relayAddress, role: 'server' }
  // A client that is refused its address may not be reached at it.
  if (reply.options.messageType !== 'nak' && message.clientAddress !== unset) {
    return { address: message.clientAddress, role: 'client' }
  }
  // A client without an address answers no ARP, and UDP sockets cannot write to a hardware address: without the broadcast
  // flag too it gets a broadcast, which every client must take (it cannot know which of the two the server chose).
  return { address: '255.255.255.255', role: 'client' }
}

function decideRequest(message: DhcpMessage, reservation: Reservation, config: DhcpConfig): DhcpDecision {
  // SELECTING and INIT-REBOOT name the address in option 50; RENEWING and REBINDING have it in `ciaddr`.
  const wanted = message.options.requestedAddress ?? message.clientAddress
  if (wanted === reservation.address) return { answer: 'ack', reply: leaseOf(message, 'ack', reservation, config) }
  const reason = `it asked for ${wanted}, its address is ${reservation.address}`
  const { clientId, relayAgent } = message.options
  const options = { messageType: 'nak', serverId: config.serverAddress, message: reason, clientId, relayAgent } as const
  // Behind a relay the answer must be broadcast on the client's side, whatever the client asked for.
  const broadcast = message.broadcast || message.relayAddress !== unset
  return { answer: 'nak', reply: { ...replyTo(message), clientAddress: unset, broadcast, options }, reason }
}

function leaseOf(message: DhcpMessage, messageType: 'offer' | 'ack', reservation: Reservation, config: DhcpConfig) {
  const reply = informed(message, reservation, config)
  const options = { ...reply.options, messageType, leaseSeconds: reservation.leaseSeconds ?? config.leaseSeconds }
  const clientAddress = messageType === 'offer' ? unset : message.clientAddress
  return withinLimit(message, { ...reply, clientAddress, yourAddress: reservation.address, options })
}

/** All that is said to a client beside its lease: the network, and for boot clients what to load and from where. */
function informed(message: DhcpMessage, reservation: Reservation, config: DhcpConfig): DhcpMessage {
  const client = classifyClient(message)
  const bootFile = bootFileFor(client, reservation, message.hardwareAddress, config.httpBase)
  const options: DhcpOptions = {
    messageType: 'ack',
    serverId: config.serverAddress,
    subnetMask: maskOf(config.prefixLength),
    broadcastAddress: broadcastOf(reservation.address, config.prefixLength),
    router: config.router === undefined ? undefined : [config.router],
    dns: config.dns?.length ? config.dns : undefined,
    hostName: reservation.host,
    domainName: config.domain,
    // RFC 6842: a client may drop an answer that does not repeat its identifier.
    clientId: message.options.clientId,
    relayAgent: message.options.relayAgent,
    ...classOptions(message, client.kind),
  }
  if (bootFile === undefined) return { ...replyTo(message), options }
  return {
    ...replyTo(message),
    nextServer: config.tftpServer,
    serverName: config.tftpServer,
    // Old ROMs read only the fixed fields. A URL too long for them is for clients that read options.
    bootFile: bootFile.length < 128 ? bootFile : '',
    options: { ...options, tftpServer: config.tftpServer, bootFile },
  }
}

function classOptions(message: DhcpMessage, kind: ClientKind): DhcpOptions {
  switch (kind) {
    case 'pxe':
      // With both, the ROM takes this offer for a PXE server's and waits for no proxyDHCP. The class alone is worse than
      // neither: OVMF then looks for a boot server and never asks for the file. RFC 4578 section 2.3: repeat the machine id.
      return { vendorClass: 'PXEClient', vendorOptions: pxeNoDiscovery, machineId: message.options.machineId }
    case 'http-boot':
      // UEFI 2.10 section 24.7.3.1: the firmware takes a boot URL only from an answer of this class.
      return { vendorClass: 'HTTPClient', machineId: message.options.machineId }
    case 'ipxe':
      return { ipxe: ipxeNoProxy }
    case 'scout':
    case 'system':
      return {}
  }
}

function replyTo(message: DhcpMessage): Omit<DhcpMessage, 'options'> {
  const { options: _, ...frame } = message
  return {
    ...frame,
    op: 'reply',
    hops: 0,
    secondsElapsed: 0,
    yourAddress: unset,
    nextServer: unset,
    serverName: '',
    bootFile: '',
  }
}

/**
 * RFC 2131 section 3.5: no answer may be larger than the client takes. What a client can do without is left out first; the
 * relay agent's option never is, the relay needs it.
 */
function withinLimit(message: DhcpMessage, reply: DhcpMessage): DhcpMessage {
  const limit = Math.max(message.options.packetBytesMax ?? 0, datagramBytesMin) - headersBytes
  let options = reply.options
  for (const spare of ['domainName', 'dns', 'clientId', 'hostName'] as const) {
    if (encodeDhcp({ ...reply, options }).length <= limit) break
    options = { ...options, [spare]: undefined }
  }
  return { ...reply, options }
}

function maskOf(prefixLength: number): string {
  return dottedIpv4(networkBits(prefixLength))
}

function broadcastOf(address: string, prefixLength: number): string {
  return dottedIpv4(ipv4Number(address) | ~networkBits(prefixLength))
}

function networkBits(prefixLength: number): number {
  // A shift by 32 is a shift by 0 in JavaScript.
  return prefixLength === 0 ? 0 : -1 << (32 - prefixLength)
}
