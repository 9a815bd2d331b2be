import { expect, test } from 'vitest'
import type { Loader } from '../model/host.ts'
import { type DhcpMessage, decodeDhcp, encodeDhcp } from '../protocol/dhcp.ts'
import type { DhcpOptions } from '../protocol/dhcp-options.ts'
import {
  bootFileFor,
  type ClientArch,
  type ClientKind,
  classifyClient,
  type DhcpConfig,
  decideDhcp,
  destinationOf,
  type Reservation,
} from './dhcp-answer.ts'

const config: DhcpConfig = {
  serverAddress: '10.77.0.1',
  prefixLength: 24,
  router: '10.77.0.254',
  dns: ['10.77.0.2', '10.77.0.3'],
  domain: 'lab.example',
  leaseSeconds: 3600,
  httpBase: 'http://10.77.0.1:7780',
  tftpServer: '10.77.0.9',
}
const reservation: Reservation = { host: 'n01', hostId: 1, address: '10.77.0.11', bootTarget: 'scout', loader: 'auto' }

function message(options: DhcpOptions, frame: Partial<DhcpMessage> = {}): DhcpMessage {
  return {
    op: 'request',
    hardwareType: 1,
    hardwareAddress: '52:54:00:77:00:01',
    hops: 0,
    transactionId: 7,
    secondsElapsed: 4,
    broadcast: false,
    clientAddress: '0.0.0.0',
    yourAddress: '0.0.0.0',
    nextServer: '0.0.0.0',
    relayAddress: '0.0.0.0',
    serverName: '',
    bootFile: '',
    ...frame,
    options,
  }
}

const clients: Record<string, DhcpOptions> = {
  'BIOS PXE': { vendorClass: 'PXEClient:Arch:00000:UNDI:002001', architectures: [0] },
  'UEFI PXE': { vendorClass: 'PXEClient:Arch:00007:UNDI:003000', architectures: [7] },
  iPXE: { vendorClass: 'PXEClient:Arch:00000:UNDI:002001', architectures: [0], userClasses: ['iPXE'] },
  'UEFI HTTP boot': { vendorClass: 'HTTPClient:Arch:00016:UNDI:003000', architectures: [16] },
  scout: { vendorClass: 'hades-scout' },
  system: { hostName: 'n01' },
}

/** The reply to this message, as a client reads it from the wire; fails the test when there is none. */
function replyTo(request: DhcpMessage, change: Partial<Reservation> = {}, settings = config): DhcpMessage {
  const decision = decideDhcp(request, { ...reservation, ...change }, settings)
  if (decision.answer === 'none') throw new Error(decision.reason)
  return decodeDhcp(encodeDhcp(decision.reply))
}

const offerTo = (client: DhcpOptions, change: Partial<Reservation> = {}) =>
  replyTo(message({ messageType: 'discover', ...client }), change)

test.each<[string, DhcpOptions, ClientKind, ClientArch]>([
  ['BIOS PXE', clients['BIOS PXE'] ?? {}, 'pxe', 'bios'],
  ['UEFI PXE', clients['UEFI PXE'] ?? {}, 'pxe', 'uefi-x64'],
  ['UEFI PXE that says EBC', { vendorClass: 'PXEClient', architectures: [9] }, 'pxe', 'uefi-x64'],
  ['UEFI PXE of 32 bits', { vendorClass: 'PXEClient', architectures: [6] }, 'pxe', 'uefi-ia32'],
  ['arm64 PXE', { vendorClass: 'PXEClient', architectures: [11] }, 'pxe', 'uefi-arm64'],
  [
    'PXE that says its architecture only in its class',
    { vendorClass: 'PXEClient:Arch:00007:UNDI:003000' },
    'pxe',
    'uefi-x64',
  ],
  ['PXE of an architecture nobody listed', { vendorClass: 'PXEClient', architectures: [999] }, 'pxe', 'unknown'],
  ['PXE with a list of architectures', { vendorClass: 'PXEClient', architectures: [999, 7] }, 'pxe', 'uefi-x64'],
  ['iPXE', clients.iPXE ?? {}, 'ipxe', 'bios'],
  ['UEFI HTTP boot', clients['UEFI HTTP boot'] ?? {}, 'http-boot', 'uefi-x64'],
  ['arm64 HTTP boot', { vendorClass: 'HTTPClient:Arch:00019', architectures: [19] }, 'http-boot', 'uefi-arm64'],
  ['the scout', { vendorClass: 'hades-scout' }, 'scout', 'unknown'],
  ['udhcpc', { vendorClass: 'udhcp 1.35.0' }, 'system', 'unknown'],
  ['a client that says nothing', {}, 'system', 'unknown'],
])('%s is told apart', (_, options, kind, arch) => {
  expect(classifyClient(message(options))).toEqual({ kind, arch })
})

const url = 'http://10.77.0.1:7780/boot/ipxe/52-54-00-77-00-01'
const bootFiles: [ClientKind, ClientArch, Record<Loader, string | undefined>][] = [
  ['pxe', 'bios', { auto: 'lpxelinux.0', pxelinux: 'lpxelinux.0', ipxe: 'undionly.kpxe', grub: 'lpxelinux.0' }],
  ['pxe', 'uefi-x64', { auto: 'grubx64.efi', pxelinux: 'grubx64.efi', ipxe: 'snponly.efi', grub: 'grubx64.efi' }],
  ['ipxe', 'bios', { auto: url, pxelinux: 'lpxelinux.0', ipxe: url, grub: url }],
  ['ipxe', 'uefi-x64', { auto: url, pxelinux: url, ipxe: url, grub: 'grubx64.efi' }],
  ['ipxe', 'uefi-arm64', { auto: url, pxelinux: url, ipxe: url, grub: url }],
  ['pxe', 'uefi-ia32', { auto: undefined, pxelinux: undefined, ipxe: undefined, grub: undefined }],
  ['system', 'unknown', { auto: undefined, pxelinux: undefined, ipxe: undefined, grub: undefined }],
  ['scout', 'unknown', { auto: undefined, pxelinux: undefined, ipxe: undefined, grub: undefined }],
]
test.each(bootFiles)('%s on %s is sent the boot file of its loader', (kind, arch, expected) => {
  const loaders = ['auto', 'pxelinux', 'ipxe', 'grub'] as const
  const found = loaders.map((loader) => [
    loader,
    bootFileFor({ kind, arch }, { loader, bootTarget: 'scout' }, '52:54:00:77:00:01', config.httpBase),
  ])
  expect(Object.fromEntries(found)).toEqual(expected)
})

test('an offer says the lease, the network and the name of the host', () => {
  expect(offerTo(clients.system ?? {})).toMatchObject({
    op: 'reply',
    transactionId: 7,
    hardwareAddress: '52:54:00:77:00:01',
    yourAddress: '10.77.0.11',
    nextServer: '0.0.0.0',
    bootFile: '',
    options: {
      messageType: 'offer',
      serverId: '10.77.0.1',
      leaseSeconds: 3600,
      subnetMask: '255.255.255.0',
      broadcastAddress: '10.77.0.255',
      router: ['10.77.0.254'],
      dns: ['10.77.0.2', '10.77.0.3'],
      hostName: 'n01',
      domainName: 'lab.example',
    },
  })
})

test.each([
  [0, '0.0.0.0', '255.255.255.255'],
  [20, '255.255.240.0', '10.77.15.255'],
  [32, '255.255.255.255', '10.77.0.11'],
])('a prefix of %i bits gives its mask and broadcast address', (prefixLength, subnetMask, broadcastAddress) => {
  const reply = replyTo(message({ messageType: 'discover' }), {}, { ...config, prefixLength })
  expect(reply.options).toMatchObject({ subnetMask, broadcastAddress })
})

test('a PXE client is told the boot file in options and in the old fields, and not to look for another boot server', () => {
  const machineId = new Uint8Array(17).fill(3)
  const reply = offerTo({ ...clients['BIOS PXE'], machineId })
  expect(reply).toMatchObject({ nextServer: '10.77.0.9', serverName: '10.77.0.9', bootFile: 'lpxelinux.0' })
  expect(reply.options).toMatchObject({ tftpServer: '10.77.0.9', bootFile: 'lpxelinux.0', vendorClass: 'PXEClient' })
  expect(reply.options.machineId).toEqual(machineId)
  expect([...(reply.options.vendorOptions ?? [])]).toEqual([6, 1, 8, 255])
})

test('iPXE is told its script and not to wait for a proxy, and is no PXE client of ours', () => {
  const { options } = offerTo(clients.iPXE ?? {})
  expect(options.bootFile).toBe(url)
  expect([...(options.ipxe ?? [])]).toEqual([176, 1, 1])
  expect(options).not.toHaveProperty('vendorClass')
  expect(options).not.toHaveProperty('vendorOptions')
})

test('UEFI HTTP boot gets a URL from an answer of its own class', () => {
  const { options } = offerTo(clients['UEFI HTTP boot'] ?? {})
  expect(options).toMatchObject({ vendorClass: 'HTTPClient', bootFile: 'http://10.77.0.1:7780/boot/grubx64.efi' })
})

test('a URL that does not fit the old field is in the option alone', () => {
  const httpBase = `http://${'x'.repeat(120)}`
  const reply = replyTo(message({ messageType: 'discover', ...clients.iPXE }), {}, { ...config, httpBase })
  expect(reply.bootFile).toBe('')
  expect(reply.options.bootFile).toBe(`${httpBase}/boot/ipxe/52-54-00-77-00-01`)
})

test('a host that is to boot from its disk is sent its loader all the same', () => {
  expect(offerTo(clients['UEFI PXE'] ?? {}, { bootTarget: 'local' }).bootFile).toBe('grubx64.efi')
})

test('a host that is to boot a partition is sent GRUB, which finds it, unless its loader is iPXE', () => {
  const bootTarget = 'local:2'
  expect(offerTo(clients['BIOS PXE'] ?? {}, { bootTarget }).bootFile).toBe('grubpc.0')
  expect(offerTo(clients['UEFI PXE'] ?? {}, { bootTarget }).bootFile).toBe('grubx64.efi')
  expect(offerTo(clients['BIOS PXE'] ?? {}, { bootTarget, loader: 'ipxe' }).bootFile).toBe('undionly.kpxe')
  expect(offerTo(clients.iPXE ?? {}, { bootTarget }).bootFile).toBe(url)
  expect(offerTo(clients['BIOS PXE'] ?? {}, { bootTarget: 'netboot:rescue' }).bootFile).toBe('lpxelinux.0')
})

test.each<[string, DhcpOptions, Partial<DhcpMessage>]>([
  ['SELECTING', { serverId: '10.77.0.1', requestedAddress: '10.77.0.11' }, {}],
  ['INIT-REBOOT', { requestedAddress: '10.77.0.11' }, {}],
  ['RENEWING or REBINDING', {}, { clientAddress: '10.77.0.11' }],
])('a request in %s for the reserved address is acknowledged', (_, options, frame) => {
  const reply = replyTo(message({ messageType: 'request', ...options }, frame))
  expect(reply).toMatchObject({ yourAddress: '10.77.0.11', options: { messageType: 'ack', leaseSeconds: 3600 } })
  expect(reply.clientAddress).toBe(frame.clientAddress ?? '0.0.0.0')
})

test.each<[string, DhcpOptions, Partial<DhcpMessage>]>([
  ['SELECTING', { serverId: '10.77.0.1', requestedAddress: '10.77.0.99' }, {}],
  ['INIT-REBOOT', { requestedAddress: '10.77.0.99' }, {}],
  ['RENEWING or REBINDING', {}, { clientAddress: '10.77.0.99' }],
])('a request in %s for another address is refused', (_, options, frame) => {
  const request = message({ messageType: 'request', ...options }, frame)
  const reply = replyTo(request)
  expect(reply).toMatchObject({ yourAddress: '0.0.0.0', clientAddress: '0.0.0.0', nextServer: '0.0.0.0' })
  expect(reply.options).toEqual({
    messageType: 'nak',
    serverId: '10.77.0.1',
    message: 'it asked for 10.77.0.99, its address is 10.77.0.11',
  })
  expect(destinationOf(request, reply)).toEqual({ address: '255.255.255.255', role: 'client' })
})

test.each<[string, DhcpOptions, Partial<DhcpMessage>]>([
  ['the offer of another server, 10.77.0.66', { messageType: 'request', serverId: '10.77.0.66' }, {}],
  ['10.77.0.11 is in use', { messageType: 'decline', requestedAddress: '10.77.0.11' }, {}],
  ['gives back 10.77.0.11', { messageType: 'release' }, { clientAddress: '10.77.0.11' }],
  ["does not send 'ack'", { messageType: 'ack' }, {}],
  ['no DHCP message type', {}, {}],
])('no answer, with the reason: %s', (reason, options, frame) => {
  const decision = decideDhcp(message(options, frame), reservation, config)
  expect(decision).toMatchObject({ answer: 'none', reason: expect.stringContaining(reason) })
})

test('INFORM is answered to the address the client has, without a lease', () => {
  const request = message({ messageType: 'inform' }, { clientAddress: '10.77.0.50' })
  const reply = replyTo(request)
  expect(reply).toMatchObject({ yourAddress: '0.0.0.0', clientAddress: '10.77.0.50', options: { messageType: 'ack' } })
  expect(reply.options).not.toHaveProperty('leaseSeconds')
  expect(destinationOf(request, reply)).toEqual({ address: '10.77.0.50', role: 'client' })
})

test('a relayed request is answered to the relay’s server port with its option and the client’s identifier', () => {
  const clientId = Uint8Array.of(1, 2, 3)
  const relayAgent = Uint8Array.of(1, 4, 9, 9, 9, 9)
  const frame = { relayAddress: '10.88.0.1', hops: 1 }
  for (const requestedAddress of ['10.77.0.11', '10.77.0.99']) {
    const request = message({ messageType: 'request', requestedAddress, clientId, relayAgent }, frame)
    const reply = replyTo(request)
    expect(reply).toMatchObject({ relayAddress: '10.88.0.1', options: { clientId, relayAgent } })
    expect(destinationOf(request, reply)).toEqual({ address: '10.88.0.1', role: 'server' })
    // The relay itself must broadcast a refusal (RFC 2131 section 4.3.2).
    expect(reply.broadcast).toBe(requestedAddress === '10.77.0.99')
  }
})

test('a client without an address is answered by broadcast, whether it asks for it or not', () => {
  for (const broadcast of [true, false]) {
    const request = message({ messageType: 'discover' }, { broadcast })
    const reply = replyTo(request)
    expect(reply.broadcast).toBe(broadcast)
    expect(destinationOf(request, reply)).toEqual({ address: '255.255.255.255', role: 'client' })
  }
})

test('an answer is never larger than the client takes, and loses what matters least', () => {
  const heavy = { ...clients['BIOS PXE'], clientId: new Uint8Array(250), relayAgent: new Uint8Array(100) }
  const small = replyTo(message({ messageType: 'discover', ...heavy }))
  expect(encodeDhcp(small).length).toBeLessThanOrEqual(548)
  expect(small.options).not.toHaveProperty('clientId')
  expect(small.options).toMatchObject({
    bootFile: 'lpxelinux.0',
    relayAgent: heavy.relayAgent,
    router: ['10.77.0.254'],
  })
  const large = replyTo(message({ messageType: 'discover', ...heavy, packetBytesMax: 1472 }))
  expect(large.options).toMatchObject({ clientId: heavy.clientId, domainName: 'lab.example' })
})
