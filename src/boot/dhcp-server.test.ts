import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import { type DhcpWorld, openDhcpWorld } from '../../test/dhcp-world.ts'
import { until } from '../lib/until.ts'
import { type DhcpMessage, decodeDhcp, encodeDhcp } from '../protocol/dhcp.ts'
import type { DhcpOptions } from '../protocol/dhcp-options.ts'
import type { Reservation } from './dhcp-answer.ts'
import { type DhcpEvent, type DhcpServerOptions, startDhcpServer } from './dhcp-server.ts'

const mac = '52:54:00:77:00:01'
const reservation: Reservation = { host: 'n01', hostId: 1, address: '10.77.0.11', bootTarget: 'scout', loader: 'auto' }
const bounds = { timeoutMs: 10_000, everyMs: 10 }

/** A server on loopback, which hears only unicast: what relays and clients with an address send. */
async function loopback(change: Partial<DhcpServerOptions> = {}) {
  const undo = new AsyncDisposableStack()
  const events: DhcpEvent[] = []
  const socket = await socketOn('127.0.0.1', 0)
  undo.defer(() => void socket.close())
  const server = await startDhcpServer({
    port: 0,
    clientPort: socket.address().port,
    mode: 'full',
    lookup: (asked) => Promise.resolve(asked === mac ? reservation : undefined),
    config: {
      serverAddress: '127.0.0.1',
      prefixLength: 24,
      leaseSeconds: 60,
      httpBase: 'http://127.0.0.1:7780',
      tftpServer: '127.0.0.1',
    },
    onEvent: (event) => events.push(event),
    ...change,
  })
  undo.defer(() => server.close())
  const send = (packet: Uint8Array) => socket.send(packet, server.port, '127.0.0.1')
  const event = (kind: DhcpEvent['kind']) => until(kind, () => events.find((event) => event.kind === kind), bounds)
  return { server, socket, send, events, event, [Symbol.asyncDispose]: () => undo.disposeAsync() }
}

async function socketOn(address: string, port: number): Promise<Socket> {
  const socket = createSocket('udp4')
  socket.bind(port, address)
  await once(socket, 'listening')
  return socket
}

async function nextMessage(socket: Socket): Promise<{ message: DhcpMessage; from: string }> {
  const [packet, from] = await once(socket, 'message', { signal: AbortSignal.timeout(bounds.timeoutMs) })
  return { message: decodeDhcp(packet), from: `${from.address}:${from.port}` }
}

function request(options: DhcpOptions, frame: Partial<DhcpMessage> = {}): Uint8Array {
  return encodeDhcp({
    op: 'request',
    hardwareType: 1,
    hardwareAddress: mac,
    hops: 0,
    transactionId: 7,
    secondsElapsed: 0,
    broadcast: false,
    clientAddress: '127.0.0.1',
    yourAddress: '0.0.0.0',
    nextServer: '0.0.0.0',
    relayAddress: '0.0.0.0',
    serverName: '',
    bootFile: '',
    ...frame,
    options,
  })
}

/** Runs busybox's DHCP client once; gives the variables that its script got with the lease, or undefined without one. */
async function udhcpc(world: DhcpWorld, args: readonly string[] = []): Promise<Record<string, string> | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'hades-udhcpc-'))
  try {
    const script = join(folder, 'script')
    await writeFile(script, '#!/bin/sh\n[ "$1" = bound ] && env\nexit 0\n')
    await chmod(script, 0o755)
    await execa('ip', ['-n', world.machineNamespace, 'link', 'set', world.machineInterface, 'address', mac])
    const inside = ['netns', 'exec', world.machineNamespace, 'busybox', 'udhcpc', '-i', world.machineInterface]
    const options = ['-f', '-q', '-n', '-t', '3', '-T', '1', '-s', script, ...args]
    const { stdout, exitCode } = await execa('ip', [...inside, ...options], {
      reject: false,
      timeout: 15_000,
      env: {},
      extendEnv: false,
    })
    if (exitCode !== 0) return undefined
    return Object.fromEntries(stdout.split('\n').map((line) => line.split(/=(.*)/s).slice(0, 2)))
  } finally {
    await rm(folder, { recursive: true })
  }
}

test.concurrent('udhcpc gets its reserved address by broadcast although the default route leads elsewhere', async () => {
  await using world = await openDhcpWorld('veth', { reservations: { [mac]: reservation } })
  const lease = await udhcpc(world)
  expect(lease).toMatchObject({
    ip: '10.77.0.11',
    mask: '24',
    subnet: '255.255.255.0',
    broadcast: '10.77.0.255',
    router: '10.77.0.1',
    dns: '10.77.0.2 10.77.0.3',
    domain: 'lab.example',
    hostname: 'n01',
    lease: '3600',
    serverid: '10.77.0.1',
  })
  expect(lease).not.toHaveProperty('boot_file')
  const common = { mac, client: { kind: 'system', arch: 'unknown' }, host: 'n01', hostId: 1, bootTarget: 'scout' }
  expect(world.events()).toEqual([
    { ...common, kind: 'dhcp.discover', answer: 'offer', address: '10.77.0.11', text: expect.any(String) },
    { ...common, kind: 'dhcp.request', answer: 'ack', address: '10.77.0.11', text: expect.any(String) },
  ])
})

test.concurrent('udhcpc as a PXE client is told next server and boot file, and asks for an address that is not its own in vain', async () => {
  await using world = await openDhcpWorld('veth', { reservations: { [mac]: { ...reservation, loader: 'ipxe' } } })
  const pxe = [
    '-V',
    'PXEClient:Arch:00007:UNDI:003000',
    '-x',
    '0x5d:0007',
    '-O',
    'bootfile',
    '-O',
    'tftp',
    '-r',
    '10.77.0.99',
  ]
  const lease = await udhcpc(world, pxe)
  expect(lease).toMatchObject({ ip: '10.77.0.11', siaddr: '10.77.0.1', boot_file: 'snponly.efi', tftp: '10.77.0.1' })
  expect(world.events().at(-1)).toMatchObject({ client: { kind: 'pxe', arch: 'uefi-x64' }, bootFile: 'snponly.efi' })
})

test.concurrent('udhcpc of the scout is told apart, and one that nobody knows gets no answer but an event', async () => {
  await using world = await openDhcpWorld('veth', { reservations: {} })
  expect(await udhcpc(world, ['-V', 'hades-scout', '-t', '1'])).toBeUndefined()
  expect(world.events()).toEqual([
    {
      kind: 'dhcp.unknown',
      mac,
      client: { kind: 'scout', arch: 'unknown' },
      suppressed: 0,
      text: `no host has ${mac}, so its discover is not answered (hades-scout)`,
    },
  ])
})

test('a client that has its address is answered there, from the server’s address and port', async () => {
  await using world = await loopback()
  world.send(request({ messageType: 'inform' }))
  const { message, from } = await nextMessage(world.socket)
  expect(message.options).toMatchObject({ messageType: 'ack', serverId: '127.0.0.1' })
  expect(from).toBe(`127.0.0.1:${world.server.port}`)
  expect(await world.event('dhcp.inform')).toMatchObject({ answer: 'ack', address: '127.0.0.1' })
})

test('a relayed request is answered to the relay’s own address and the server’s port number', async () => {
  await using world = await loopback({ address: '127.0.0.1' })
  const relay = await socketOn('127.0.0.2', world.server.port)
  try {
    world.send(request({ messageType: 'discover' }, { clientAddress: '0.0.0.0', relayAddress: '127.0.0.2' }))
    const { message } = await nextMessage(relay)
    expect(message).toMatchObject({ yourAddress: '10.77.0.11', options: { messageType: 'offer' } })
  } finally {
    relay.close()
  }
})

test('a refusal is an event that says both addresses', async () => {
  await using world = await loopback()
  const relay = { relayAddress: '127.0.0.2', clientAddress: '0.0.0.0' }
  world.send(request({ messageType: 'request', requestedAddress: '10.77.0.99' }, relay))
  const event = await world.event('dhcp.request')
  expect(event).toMatchObject({ host: 'n01', answer: 'nak' })
  expect(event.text).toContain('it asked for 10.77.0.99, its address is 10.77.0.11')
  expect(event).not.toHaveProperty('address')
})

test('broken packets are events at a bounded rate, and the server goes on', async () => {
  await using world = await loopback()
  const foreign = [
    new Uint8Array(10),
    new Uint8Array(300),
    request({}, { hardwareType: 32 }),
    request({}, { op: 'reply' }),
  ]
  for (const packet of foreign) world.send(packet)
  for (let i = 0; i < 500; i++) world.send(new Uint8Array(20))
  // The kernel's buffer may be full of the broken ones, so a good one may have to come again.
  const good = () => {
    world.send(request({ messageType: 'inform' }))
    return world.events.some((event) => event.kind === 'dhcp.inform')
  }
  await until('an answer', good, bounds)
  const texts = world.events.map((event) => event.text.replace(/^\S+ sent /, ''))
  expect(texts.slice(0, 4)).toEqual([
    '10 bytes: 10 bytes are too few for DHCP',
    '300 bytes: the DHCP magic cookie is missing',
    '300 bytes: a request from hardware that is not Ethernet',
    '300 bytes: a DHCP reply, which belongs to no server',
  ])
  expect(world.events.filter((event) => event.kind === 'dhcp.dropped').length).toBeLessThan(150)
})

test('what a client says of itself reaches an event only printable and short', async () => {
  await using world = await loopback()
  const vendorClass = `\u001b[2J${'x'.repeat(250)}`
  world.send(request({ messageType: 'discover', vendorClass }, { hardwareAddress: '52:54:00:77:00:99' }))
  const { text } = await world.event('dhcp.unknown')
  expect(text).toMatch(/^[\x20-\x7e]{200}$/)
  expect(text).toContain('(?[2Jxxx')
})

test('a look-up that fails gives no answer and an event with its cause', async () => {
  const cause = new Error('database is locked')
  await using world = await loopback({ lookup: () => Promise.reject(cause) })
  world.send(request({ messageType: 'inform' }))
  expect(await world.event('dhcp.failed')).toMatchObject({ mac, text: `could not look up ${mac}`, cause })
})

test.concurrent('a look-up that never ends is given up before the client asks again', async () => {
  await using world = await loopback({ lookup: () => new Promise(() => {}) })
  world.send(request({ messageType: 'inform' }))
  const { cause } = (await world.event('dhcp.failed')) as DhcpEvent & { cause: Error }
  expect(cause.message).toBe('no reservation within 4000 ms')
})

test('more requests than the server can hold are dropped, and it says so', async () => {
  await using world = await loopback({ lookup: () => new Promise(() => {}) })
  const overfull = () => {
    for (let i = 0; i < 100; i++) world.send(request({ messageType: 'inform' }))
    return world.events.find((event) => event.kind === 'dhcp.dropped')
  }
  const dropped = await until('a dropped request', overfull, bounds)
  expect(dropped.text).toBe(`1024 requests are waiting, so ${mac} is not answered`)
})

test('closing gives up the look-ups under way', async () => {
  const world = await loopback({ lookup: () => new Promise(() => {}) })
  world.send(request({ messageType: 'inform' }))
  world.send(new Uint8Array(3))
  await world.event('dhcp.dropped')
  await world[Symbol.asyncDispose]()
  expect(world.events.at(-1)).toMatchObject({ kind: 'dhcp.failed', cause: new Error('the DHCP server closes') })
})

test('an answer that cannot be sent is an event with the host and the cause', async () => {
  await using world = await loopback({ address: '127.0.0.1' })
  // From 127.0.0.1 the kernel sends nothing to another machine.
  world.send(request({ messageType: 'discover' }, { clientAddress: '0.0.0.0', relayAddress: '203.0.113.77' }))
  expect(await world.event('dhcp.failed')).toMatchObject({
    text: `could not answer n01, ${mac}`,
    cause: expect.any(Error),
  })
})

test('a port that another server has is refused, though both would share it', async () => {
  const other = createSocket({ type: 'udp4', reuseAddr: true })
  other.bind(0, '0.0.0.0')
  await once(other, 'listening')
  const { port } = other.address()
  await expect(loopback({ port })).rejects.toThrow(`cannot listen for DHCP on 0.0.0.0:${port}`)
  other.close()
})

test('a server address that is not this machine’s is refused, and the port is free again', async () => {
  const probe = await socketOn('0.0.0.0', 0)
  const { port } = probe.address()
  probe.close()
  await once(probe, 'close')
  const config = {
    serverAddress: '203.0.113.77',
    prefixLength: 24,
    leaseSeconds: 60,
    httpBase: '',
    tftpServer: '203.0.113.77',
  }
  await expect(loopback({ port, config })).rejects.toThrow(`cannot listen for DHCP on 203.0.113.77:${port}`)
  const again = await socketOn('0.0.0.0', port)
  again.close()
})
