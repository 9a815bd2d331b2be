// The service is a process of its own here and is killed with SIGKILL in each state of a deployment; the next one goes on
// from the rows. Controllers are ipmi_sim; the machine is played at its edge, by the calls that its agent makes.
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createClient } from '../src/client/client.ts'
import { controlPort } from '../src/contract/control.ts'
import { servicePort } from '../src/contract/service.ts'
import { freePort } from '../src/lib/free-port.ts'
import { Secret } from '../src/lib/secret.ts'
import { until } from '../src/lib/until.ts'
import type { DeploymentState } from '../src/model/deployment.ts'
import { exampleInventory, exampleProof } from '../src/operations/testing.ts'
import { type IpmiSim, startIpmiSim } from '../src/power/ipmi-sim.ts'

const program = join(import.meta.dirname, '..', 'bin', 'hades')
const loaders = join(import.meta.dirname, '..', 'build', 'loaders')
const scout = join(import.meta.dirname, '..', 'build', 'scout', 'current')
const mac = '52:54:00:00:00:01'

let folder: string
let sim: IpmiSim
let probe: Server
let child: ChildProcess | undefined
let ports: { control: number; http: number; tftp: number }

const control = () => createClient(controlPort, { kind: 'unix', socketPath: join(folder, 'control.sock') })
const base = () => `http://127.0.0.1:${ports.http}`

async function start(): Promise<void> {
  const up = ['--data', folder, 'up', '--address', '127.0.0.1', '--dhcp', 'off', '--log-level', 'warn']
  const at = ['--http-port', ports.http, '--tftp-port', ports.tftp, '--control-port', ports.control].map(String)
  child = spawn(program, [...up, ...at, '--loaders', loaders, '--scout', scout], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  await until('the service', () => control().getStatus({}), { timeoutMs: 60_000 })
}

async function kill(): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-kill-'))
  sim = await startIpmiSim({ machines: [{ name: 'n1' }] })
  ports = { control: await freePort(), http: await freePort(), tftp: await freePort() }
  probe = createServer((socket) => socket.end('SSH-2.0-new\r\n'))
  await start()
  const image = join(folder, 'tiny.raw')
  await writeFile(image, Buffer.alloc(1024 * 1024, 'hades'))
  const { task } = await control().publishImage({ reference: 'tiny:1', path: image })
  await until('the image', async () => (await control().getTask({ task: task.id })).task.state === 'done', {
    timeoutMs: 20_000,
  })
})
afterEach(async () => {
  await kill()
  probe.close()
  await sim.close()
  await rm(folder, { recursive: true, force: true })
})

async function begin(probePort: number): Promise<number> {
  const xml = `<setup xmlns="urn:hades:setup:1" name="tiny"><disk><image>tiny:1</image></disk>
    <probe><tcp port="${probePort}" expect="SSH-"/></probe></setup>`
  await control().putSetup({ xml })
  const { driver, address, username, password, options } = sim.method('n1')
  const given = Object.entries(options).map(([name, value]) => ({ name, value }))
  await control().addHost({
    name: 'n1',
    interfaces: [{ mac, ip: '127.0.0.1' }],
    powerMethods: [{ driver, address, username, password: password.reveal(), options: given }],
  })
  const { rollout } = await control().startRollout({ nodeset: 'n1', setup: 'tiny' })
  return rollout.deployments[0]?.id ?? 0
}

async function reaches(deployment: number, state: DeploymentState): Promise<void> {
  const now = async () => (await control().getDeployment({ deployment })).deployment
  await until(state, async () => (await now()).state === state, { timeoutMs: 60_000 })
}

/** What stands in the script that the machine's loader gets now. */
async function bootToken(): Promise<string> {
  const script = await (await fetch(`${base()}/boot/ipxe/${mac.replaceAll(':', '-')}`)).text()
  const [, token] = /hades\.token=(\S+)/.exec(script) ?? []
  if (token === undefined) throw new Error(`no token in: ${script}`)
  return token
}

const agentId = randomUUID()

/** Registers as the agent that booted with this token; the same agent may do so again. */
async function register(token: string) {
  const client = createClient(servicePort, { kind: 'http', baseUrl: base(), token: new Secret(token) })
  const registration = { host: 'n1', agent: agentId, agentVersion: '1', inventory: exampleInventory }
  const { sessionKey } = await client.registerHost(registration)
  return createClient(servicePort, { kind: 'http', baseUrl: base(), token: new Secret(sessionKey) })
}

test.each(['queued', 'powering', 'booting', 'deploying', 'rebooting'] as const)(
  'a service that is killed while a deployment is %s loses nothing',
  async (state) => {
    const probePort = await freePort()
    if (state === 'queued' || state === 'powering') sim.silence()
    const deployment = await begin(probePort)
    if (state === 'queued') await kill()
    if (state === 'powering') await reaches(deployment, 'powering')
    if (state === 'powering') await kill()
    sim.wake()
    if (state === 'queued' || state === 'powering') await start()
    await reaches(deployment, 'booting')
    const token = await bootToken()
    if (state === 'booting') {
      await kill()
      await start()
    }
    const agent = await register(token)
    if (state === 'deploying') {
      await kill()
      await start()
      await register(token)
    }
    const progress = { deployment, step: 'transfer', doneBytes: 1, totalBytes: 2, bytesPerSecond: 1 } as const
    expect(await agent.reportProgress(progress)).toEqual({ action: 'continue' })
    await agent.completeDeployment({ deployment, proof: exampleProof })
    if (state === 'rebooting') {
      await kill()
      await start()
      expect(await agent.completeDeployment({ deployment, proof: exampleProof })).toEqual({ action: 'continue' })
    }
    expect(await (await fetch(`${base()}/boot/ipxe/${mac.replaceAll(':', '-')}`)).text()).toContain('boots its disk')
    probe.listen(probePort, '127.0.0.1')
    await reaches(deployment, 'done')
    expect((await control().getDeployment({ deployment })).deployment.attempt).toBe(1)
  },
  240_000,
)

test('the control token of the data folder opens the Control Port over TCP, and nothing else does', async () => {
  const token = (await readFile(join(folder, 'admin.token'), 'utf8')).trim()
  const at = { kind: 'http', baseUrl: `http://127.0.0.1:${ports.control}` } as const
  const { hosts } = await createClient(controlPort, { ...at, token: new Secret(token) }).getStatus({})
  expect(hosts).toBe(0)
  const stranger = createClient(controlPort, { ...at, token: new Secret(`${token}x`) })
  await expect(stranger.getStatus({})).rejects.toMatchObject({ code: 'unauthorized' })
})
