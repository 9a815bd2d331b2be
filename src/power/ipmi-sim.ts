// A fake at the machine's edge: OpenIPMI's ipmi_sim (Debian package openipmi) as the controllers of machines that are
// files in a temporary folder. It speaks real IPMI on loopback; the machines can be told to lie, to be late or to refuse.
// For tests and for the simulated fleet; a process holds up to a hundred machines.
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes, randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type FSWatcher, mkdtempSync, readFileSync, renameSync, rmSync, watch, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Secret } from '../lib/secret.ts'
import { until } from '../lib/until.ts'
import { invariant } from '../model/failure.ts'
import type { PowerMethod } from '../model/power.ts'

/**
 * What the machine behind a controller does with a request that the controller has accepted: as told, nothing
 * (`ignores`), or as told but later. `refuses`: the controller itself answers with an error.
 */
export type SimBehaviour = 'honest' | 'ignores' | 'refuses' | { readonly lateMs: number }

export type SimMachine = {
  readonly name: string
  readonly password?: string
  readonly power?: 'on' | 'off'
  readonly behaviour?: SimBehaviour
}

/** What a controller was asked for, whether its machine then did it or not. `device` in ipmi_sim's words: pxe, default, bios. */
export type SimEvent =
  | { readonly machine: string; readonly kind: 'power'; readonly state: 'on' | 'off' }
  | { readonly machine: string; readonly kind: 'reset' | 'shutdown' }
  | { readonly machine: string; readonly kind: 'boot'; readonly device: string }

/** ipmi_sim has one controller for each even address of the IPMB bus, which has 128; this many were tried. */
const machinesMax = 100
/** Its configuration file takes one byte less than IPMI 2.0 allows, and no blanks; any other character is as good. */
const passwordBytesMax = 19
/** Neither privileged nor among the ports that the kernel gives to others, so nobody comes in between. */
const port = 6230
const simUsername = 'hades'

// ipmi_sim calls `chassis NAME get power|boot` and `chassis NAME set power|reset|shutdown|boot VALUE`, and waits for it.
const chassisScript = `#!/bin/sh
cd "\${0%/*}" || exit 1
put() { echo "$2" > "$1.new" && mv "$1.new" "$1"; }
case "$2 $3" in
'get power' | 'get boot') read -r value < "$1.$3"; echo "$3:$value"; exit ;;
esac
read -r mode < "$1.mode"
[ "$mode" = refuses ] && exit 1
[ "$3 $mode" = 'power honest' ] && put "$1.power" "$4"
[ "$3 $mode" = 'shutdown honest' ] && put "$1.power" 0
[ "$3" = boot ] && [ "$mode" != ignores ] && put "$1.boot" "$4"
echo "$1 $3 $4" >> events
`

/** Starts one ipmi_sim for these machines and returns when it answers (some 50 ms). The caller closes it. */
export async function startIpmiSim(options: {
  readonly machines: readonly SimMachine[]
  readonly onEvent?: (event: SimEvent) => void
}): Promise<IpmiSim> {
  const { machines, onEvent } = options
  invariant(machines.length > 0 && machines.length <= machinesMax, `1 to ${machinesMax} machines a simulator`)
  const folder = mkdtempSync(join(tmpdir(), 'hades-ipmi-sim-'))
  // A random /24 of the loopback network, so that simulators of several test files do not meet.
  const network = `127.${randomInt(2, 250)}.${randomInt(0, 256)}`
  const methods = new Map<string, PowerMethod>()
  for (const [i, machine] of machines.entries()) {
    const password = machine.password ?? `pw-${machine.name}`.slice(0, passwordBytesMax)
    invariant(/^[A-Za-z0-9_-]+$/.test(machine.name), `${machine.name} is no name for a file`)
    invariant(!/\s/.test(password) && password.length <= passwordBytesMax, 'ipmi_sim cannot have this password')
    methods.set(machine.name, {
      driver: 'ipmi',
      address: `${network}.${i + 1}:${port}`,
      username: simUsername,
      password: new Secret(password),
      options: {},
    })
  }
  writeFileSync(join(folder, 'chassis'), chassisScript, { mode: 0o700 })
  writeFileSync(join(folder, 'lan.conf'), lanConf(folder, methods), { mode: 0o600 })
  writeFileSync(join(folder, 'sim.emu'), emulatorCommands(methods.size))
  writeFileSync(join(folder, 'events'), '')
  // Its standard input stays open: when this process dies, however it dies, ipmi_sim reads the end of it and exits.
  const child = spawn('ipmi_sim', ['-c', 'lan.conf', '-f', 'sim.emu', '-s', folder], {
    cwd: folder,
    stdio: ['pipe', 'ignore', 'inherit'],
  })
  const sim = new IpmiSim(folder, methods, child, onEvent)
  for (const machine of machines) {
    sim.behave(machine.name, machine.behaviour ?? 'honest')
    sim.setPower(machine.name, machine.power ?? 'off')
    sim.setBoot(machine.name, 'none')
  }
  try {
    await isUp(child, `${network}.${methods.size}`)
    return sim
  } catch (error) {
    await sim.close()
    throw error
  }
}

export class IpmiSim {
  /** Everything that was asked for, oldest first. */
  readonly events: SimEvent[] = []
  readonly #folder: string
  readonly #methods: ReadonlyMap<string, PowerMethod>
  readonly #child: ChildProcess
  readonly #onEvent: ((event: SimEvent) => void) | undefined
  readonly #watcher: FSWatcher
  readonly #lateMs = new Map<string, number>()
  readonly #timers = new Set<NodeJS.Timeout>()
  #linesRead = 0

  constructor(
    folder: string,
    methods: ReadonlyMap<string, PowerMethod>,
    child: ChildProcess,
    onEvent: ((event: SimEvent) => void) | undefined,
  ) {
    this.#folder = folder
    this.#methods = methods
    this.#child = child
    this.#onEvent = onEvent
    this.#watcher = watch(join(folder, 'events'), () => this.#readEvents())
  }

  /** How the controller of this machine is reached. */
  method(name: string): PowerMethod {
    const method = this.#methods.get(name)
    invariant(method, `the simulator has no machine ${name}`)
    return method
  }

  /** What the machine really is, whatever its controller says. */
  power(name: string): 'on' | 'off' {
    return this.#read(`${name}.power`) === '1' ? 'on' : 'off'
  }

  /** As if somebody pressed the button, or the system shut itself down. */
  setPower(name: string, state: 'on' | 'off'): void {
    this.#write(`${name}.power`, state === 'on' ? '1' : '0')
  }

  /** The device that the firmware would boot next, in ipmi_sim's words: none, pxe, default (disk), bios. */
  boot(name: string): string {
    return this.#read(`${name}.boot`)
  }

  setBoot(name: string, device: 'none' | 'pxe' | 'default' | 'bios'): void {
    this.#write(`${name}.boot`, device)
  }

  behave(name: string, behaviour: SimBehaviour): void {
    if (typeof behaviour === 'object') this.#lateMs.set(name, behaviour.lateMs)
    else this.#lateMs.delete(name)
    this.#write(`${name}.mode`, typeof behaviour === 'object' ? 'late' : behaviour)
  }

  /** From now on the controller cannot tell the power state and answers with an error. */
  breakStatus(name: string): void {
    this.#write(`${name}.power`, 'broken')
  }

  /** Makes all its controllers deaf and mute: the process stands still and its packets wait. */
  silence(): void {
    this.#child.kill('SIGSTOP')
  }

  wake(): void {
    this.#child.kill('SIGCONT')
  }

  async close(): Promise<void> {
    this.#watcher.close()
    for (const timer of this.#timers) clearTimeout(timer)
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exit = once(this.#child, 'exit')
      this.#child.kill('SIGKILL')
      await exit
    }
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #read(file: string): string {
    return readFileSync(join(this.#folder, file), 'utf8').trim()
  }

  #write(file: string, value: string): void {
    const path = join(this.#folder, file)
    writeFileSync(`${path}.next`, `${value}\n`)
    renameSync(`${path}.next`, path)
  }

  #readEvents(): void {
    const lines = this.#read('events').split('\n')
    for (const line of lines.slice(this.#linesRead)) {
      const event = readEvent(line)
      if (!event) continue
      this.#linesRead += 1
      this.events.push(event)
      const lateMs = this.#lateMs.get(event.machine)
      if (event.kind === 'power' && lateMs !== undefined) {
        const timer = setTimeout(() => this.setPower(event.machine, event.state), lateMs)
        this.#timers.add(timer)
      }
      this.#onEvent?.(event)
    }
  }
}

function readEvent(line: string): SimEvent | undefined {
  const [machine, kind, value] = line.split(' ')
  if (!machine || !kind || !value) return undefined
  if (kind === 'power') return { machine, kind, state: value === '1' ? 'on' : 'off' }
  if (kind === 'boot') return { machine, kind, device: value }
  return { machine, kind: kind === 'shutdown' ? kind : 'reset' }
}

/** The even addresses of the IPMB from 0x20 on, and then those before. */
function mcAddress(i: number): string {
  return `0x${((0x20 + 2 * i) % 0xfe).toString(16)}`
}

function lanConf(folder: string, methods: ReadonlyMap<string, PowerMethod>): string {
  const lines = ['name "hades"']
  for (const [i, [name, method]] of [...methods].entries()) {
    const [address] = method.address.split(':')
    lines.push(`set_working_mc ${mcAddress(i)}`, '  startlan 1', `    addr ${address} ${port}`, '    priv_limit admin')
    for (const level of ['callback', 'user', 'operator', 'admin']) lines.push(`    allowed_auths_${level} md5`)
    // Without a GUID ipmi_sim does not offer IPMI 2.0 at all.
    lines.push(`    guid ${randomBytes(16).toString('hex')}`, '  endlan')
    lines.push(`  chassis_control "${folder}/chassis ${name}"`)
    lines.push(`  user 2 true "${method.username}" "${method.password.reveal()}" admin 10 md5`)
  }
  return `${lines.join('\n')}\n`
}

function emulatorCommands(count: number): string {
  const lines = ['mc_setbmc 0x20']
  for (let i = 0; i < count; i += 1) {
    lines.push(`mc_add ${mcAddress(i)} 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02`, `mc_enable ${mcAddress(i)}`)
  }
  return `${lines.join('\n')}\n`
}

/** Waits until the controller at `address` answers an RMCP presence ping (ASF 2.0, 3.2.4). */
async function isUp(child: ChildProcess, address: string): Promise<void> {
  const socket = createSocket('udp4')
  let answered = false
  socket.on('message', () => {
    answered = true
  })
  // Asking a port that nobody listens on yet is reported as an error of the socket; it is asked again.
  socket.on('error', () => undefined)
  try {
    await until(
      'ipmi_sim to answer',
      () => {
        invariant(child.exitCode === null, `ipmi_sim ended with ${child.exitCode}`)
        if (!answered) socket.send(Buffer.from('0600ff06000011be80000000', 'hex'), port, address)
        return answered
      },
      { timeoutMs: 5_000, everyMs: 10 },
    )
  } finally {
    socket.close()
  }
}
