// A network of its own for DHCP tests: a namespace with the server, and the machine's side of the wire, which is a second
// namespace with a veth for a client program, or a tap in the first one for QEMU. Run as a program, this file is what runs
// inside the server's namespace. Needs root.
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { execa } from 'execa'
import type { DhcpConfig, Reservation } from '../src/boot/dhcp-answer.ts'
import { type DhcpEvent, startDhcpServer } from '../src/boot/dhcp-server.ts'
import { until } from '../src/lib/until.ts'

type Plan = { readonly reservations: Readonly<Record<string, Reservation>>; readonly config?: Partial<DhcpConfig> }

/** What the server's side tells, in order. `packet` is a request as hex, `asked` the URL of a boot file. */
export type Told =
  | { readonly ready: true }
  | { readonly event: DhcpEvent }
  | { readonly packet: string }
  | { readonly asked: string }

export type DhcpWorld = AsyncDisposable & {
  /** Where a machine runs: the client's namespace with a veth, the server's with a tap. */
  readonly machineNamespace: string
  /** The name of the veth or tap on the machine's side. */
  readonly machineInterface: string
  readonly told: readonly Told[]
  readonly events: () => readonly DhcpEvent[]
  /** The URLs of the boot files that the machine asked for, by TFTP or HTTP, in order. */
  readonly asked: () => readonly string[]
}

const serverAddress = '10.77.0.1'
let worlds = 0

/** Makes the network, starts the server in it and waits until it listens. Everything is gone after the disposal. */
export async function openDhcpWorld(machine: 'veth' | 'tap', plan: Plan): Promise<DhcpWorld> {
  const name = `hd${process.pid}-${worlds++}`
  const serverNamespace = `${name}-s`
  const machineNamespace = machine === 'veth' ? `${name}-c` : serverNamespace
  const namespaces = [...new Set([serverNamespace, machineNamespace])]
  const undo = new AsyncDisposableStack()
  try {
    for (const namespace of namespaces) {
      await execa('ip', ['netns', 'add', namespace])
      undo.defer(async () => void (await execa('ip', ['netns', 'del', namespace])))
    }
    await wire(machine, serverNamespace, machineNamespace)
    const inside = ['netns', 'exec', serverNamespace, process.execPath, fileURLToPath(import.meta.url)]
    // The program ends when its standard input does, so it does not outlive a test process that was killed.
    const server = execa('ip', [...inside, JSON.stringify(plan)], { stdin: 'pipe', buffer: false, reject: false })
    undo.defer(async () => {
      server.stdin.end()
      await server
    })
    const told: Told[] = []
    createInterface({ input: server.stdout }).on('line', (line) => told.push(JSON.parse(line)))
    server.stderr.pipe(process.stderr)
    await until('the DHCP server', () => told.some((line) => 'ready' in line), { timeoutMs: 10_000, everyMs: 20 })
    return {
      machineNamespace,
      machineInterface: 'machine',
      told,
      events: () => told.flatMap((line) => ('event' in line ? [line.event] : [])),
      asked: () => told.flatMap((line) => ('asked' in line ? [line.asked] : [])),
      [Symbol.asyncDispose]: () => undo.disposeAsync(),
    }
  } catch (error) {
    await undo.disposeAsync()
    throw error
  }
}

/** The server also has a second network with the default route: answers must not leave by it. */
async function wire(machine: 'veth' | 'tap', serverNamespace: string, machineNamespace: string): Promise<void> {
  const ip = (...args: string[]) => execa('ip', ['-n', serverNamespace, ...args])
  const near = machine === 'veth' ? 'server' : 'machine'
  if (machine === 'tap') await ip('tuntap', 'add', 'machine', 'mode', 'tap')
  else await ip('link', 'add', 'server', 'type', 'veth', 'peer', 'name', 'machine', 'netns', machineNamespace)
  await ip('address', 'add', `${serverAddress}/24`, 'dev', near)
  await ip('link', 'set', near, 'up')
  await ip('link', 'add', 'elsewhere', 'type', 'veth', 'peer', 'name', 'nobody')
  await ip('address', 'add', '192.0.2.1/24', 'dev', 'elsewhere')
  await ip('link', 'set', 'elsewhere', 'up')
  await ip('link', 'set', 'nobody', 'up')
  await ip('route', 'add', 'default', 'via', '192.0.2.254')
  if (machine === 'veth') await execa('ip', ['-n', machineNamespace, 'link', 'set', 'machine', 'up'])
}

async function serve(plan: Plan): Promise<void> {
  const tell = (line: Told) => process.stdout.write(`${JSON.stringify(line)}\n`)
  await startDhcpServer({
    mode: 'full',
    lookup: (mac) => Promise.resolve(plan.reservations[mac]),
    config: {
      serverAddress,
      prefixLength: 24,
      router: serverAddress,
      dns: ['10.77.0.2', '10.77.0.3'],
      domain: 'lab.example',
      leaseSeconds: 3600,
      httpBase: `http://${serverAddress}:7780`,
      tftpServer: serverAddress,
      ...plan.config,
    },
    onEvent: (event) => tell({ event }),
  })
  const ears = createSocket({ type: 'udp4', reuseAddr: true })
  ears.on('message', (packet) => tell({ packet: packet.toString('hex') }))
  ears.bind(67)
  // RFC 1350: op 1, file name, NUL. Nothing answers: a test ends when it has seen what is asked for.
  const tftp = createSocket('udp4')
  tftp.on('message', (packet) => tell({ asked: `tftp:${packet.toString('latin1', 2, packet.indexOf(0, 2))}` }))
  tftp.bind(69, serverAddress)
  const http = createServer((request) => tell({ asked: `http:${request.url}` }))
  http.listen(7780, serverAddress)
  await Promise.all([tftp, http, ears].map((listener) => once(listener, 'listening')))
  tell({ ready: true })
  process.stdin.resume().once('end', () => process.exit(0))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await serve(JSON.parse(process.argv[2] ?? '{}'))
