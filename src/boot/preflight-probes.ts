// Looks at the boot network as a machine would: who answers a DHCPDISCOVER, does TFTP give a file. For preflight.
import { randomInt } from 'node:crypto'
import { createSocket, type Socket } from 'node:dgram'
import { setTimeout as delay } from 'node:timers/promises'
import type { SeenOffer } from '../model/preflight.ts'
import { type DhcpMessage, decodeDhcp, encodeDhcp } from '../protocol/dhcp.ts'
import { DhcpError } from '../protocol/dhcp-options.ts'
import { decodePacket, encodePacket, TftpPacketError, tftpErrorCodes } from '../protocol/tftp.ts'

/** Locally administered, and no machine's: our own server and its timelines pass over it. */
export const preflightMac = '02:48:61:44:65:53'

/** Servers that ping an address before they offer it take up to 3 s. */
const listenMs = 5_000
const repeatMs = 1_500
/** More servers than any network has; a flood of offers may not fill the memory. */
const offersMax = 64

type Ports = { readonly server: number; readonly client: number }

/**
 * Broadcasts a DHCPDISCOVER of an unknown PXE client by the network that has `address`, and returns what was offered within
 * some seconds. Asks for nothing, so no server binds a lease. Throws when the client port is taken or nothing can be sent.
 */
export async function discoverOffers(
  address: string,
  { server, client }: Ports = { server: 67, client: 68 },
): Promise<SeenOffer[]> {
  const transactionId = randomInt(1, 2 ** 32 - 1)
  const offers: SeenOffer[] = []
  const hear = (packet: Uint8Array): void => {
    const offer = readOffer(packet, transactionId)
    if (offer && offers.length < offersMax) offers.push(offer)
  }
  // One hears broadcasts; the other's address decides by which network ours leaves, whatever the routes say.
  const hearing = await openSocket('0.0.0.0', client)
  try {
    const asking = await openSocket(address, client)
    try {
      for (const socket of [hearing, asking]) socket.on('message', hear)
      const packet = encodeDhcp(discover(transactionId))
      for (let waited = 0; waited < listenMs; waited += repeatMs) {
        await send(asking, packet, server)
        await delay(Math.min(repeatMs, listenMs - waited))
      }
    } finally {
      asking.close()
    }
  } finally {
    hearing.close()
  }
  return offers
}

function discover(transactionId: number): DhcpMessage {
  return {
    op: 'request',
    hardwareType: 1,
    hardwareAddress: preflightMac,
    hops: 0,
    transactionId,
    secondsElapsed: 0,
    broadcast: true,
    clientAddress: '0.0.0.0',
    yourAddress: '0.0.0.0',
    nextServer: '0.0.0.0',
    relayAddress: '0.0.0.0',
    serverName: '',
    bootFile: '',
    options: {
      messageType: 'discover',
      parameters: [1, 3, 54, 66, 67],
      vendorClass: 'PXEClient:Arch:00007:UNDI:003016',
      architectures: [7],
    },
  }
}

function readOffer(packet: Uint8Array, transactionId: number): SeenOffer | undefined {
  try {
    const message = decodeDhcp(packet)
    const { messageType, serverId, tftpServer, bootFile } = message.options
    if (message.op !== 'reply' || message.transactionId !== transactionId || messageType !== 'offer') return undefined
    const next = message.nextServer === '0.0.0.0' ? tftpServer : message.nextServer
    const file = bootFile ?? (message.bootFile || undefined)
    return {
      server: serverId ?? 'a server without a name',
      address: message.yourAddress,
      ...(next === undefined ? {} : { nextServer: next }),
      ...(file === undefined ? {} : { bootFile: file }),
    }
  } catch (error) {
    if (error instanceof DhcpError) return undefined
    throw error
  }
}

async function openSocket(address: string, port: number): Promise<Socket> {
  const socket = createSocket({ type: 'udp4', reuseAddr: true })
  await new Promise<void>((resolve, reject) => {
    socket.once('error', (cause) => {
      socket.close()
      reject(new Error(`cannot listen on UDP ${address}:${port}`, { cause }))
    })
    socket.bind(port, address, resolve)
  })
  socket.removeAllListeners('error')
  socket.on('error', () => {})
  socket.setBroadcast(true)
  return socket
}

async function send(socket: Socket, packet: Uint8Array, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    socket.send(packet, port, '255.255.255.255', (error) => (error ? reject(error) : resolve()))
  })
}

const tftpAnswerMs = 4_000

/** Asks for a file by TFTP and ends the transfer at its first block. Returns what came, in words; throws when nothing did. */
export async function askTftp({
  address,
  port,
  path,
}: {
  address: string
  port: number
  path: string
}): Promise<string> {
  const socket = createSocket('udp4')
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const late = setTimeout(() => reject(new Error(`no answer within ${tftpAnswerMs / 1000} s`)), tftpAnswerMs)
  socket.on('error', reject)
  socket.on('message', (datagram, from) => {
    try {
      const packet = decodePacket(datagram)
      if (packet.op === 'error') reject(new Error(`error ${packet.code}: ${packet.message}`))
      if (packet.op !== 'data') return
      const thanks = encodePacket({ op: 'error', code: tftpErrorCodes.undefined, message: 'that was all' })
      socket.send(thanks, from.port, from.address, () =>
        resolve(`${path} comes, first block ${packet.data.length} bytes`),
      )
    } catch (error) {
      if (!(error instanceof TftpPacketError)) throw error
    }
  })
  try {
    socket.send(encodePacket({ op: 'read', path, mode: 'octet', options: new Map() }), port, address)
    return await promise
  } finally {
    clearTimeout(late)
    socket.close()
  }
}
