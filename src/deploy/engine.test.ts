// The engine with its real neighbours: rows in SQLite, the handlers of the ports, controllers of ipmi_sim. Only the
// machines themselves are played, at their edge: what a switched-on machine asks and what its agent reports.
import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { inProcess } from '../client/client.ts'
import type { Caller } from '../contract/operation.ts'
import { powerPort } from '../contract/power.ts'
import { bootByMac } from '../db/boot.ts'
import { claimDue, releaseClaim } from '../db/claims.ts'
import { findDeployment } from '../db/deployments.ts'
import { addEvent } from '../db/events.ts'
import { losing } from '../db/testing.ts'
import { until } from '../lib/until.ts'
import { type DeploymentState, isActive } from '../model/deployment.ts'
import { bootToken } from '../model/token.ts'
import { controlHandlers } from '../operations/control.ts'
import { powerHandlers } from '../operations/power.ts'
import { serviceHandlers } from '../operations/service.ts'
import { exampleInventory, exampleProof, nameImage, openTestWorld, type TestWorld } from '../operations/testing.ts'
import { type IpmiSim, startIpmiSim } from '../power/ipmi-sim.ts'
import { agentSilenceMs, bootStallMs } from './decide.ts'
import { type Engine, startEngine } from './engine.ts'

const admin: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' }
const mac = '52:54:00:00:00:01'

let world: TestWorld
let sim: IpmiSim
let engine: Engine | undefined
let control: ReturnType<typeof controlHandlers>
let service: ReturnType<typeof serviceHandlers>

beforeEach(async () => {
  world = await openTestWorld()
  sim = await startIpmiSim({ machines: [{ name: 'n1' }] })
  control = controlHandlers(world)
  service = serviceHandlers(world)
  await nameImage(world, 'debian', '12')
  const xml = `<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk>
    <deadlines boot="10min" deploy="1h" observe="10min" attempts="2"/></setup>`
  await control.putSetup({ xml }, admin)
  const { driver, address, username, password, options } = sim.method('n1')
  const method = { driver, address, username, password: password.reveal() }
  const given = Object.entries(options).map(([name, value]) => ({ name, value }))
  const powerMethods = [{ ...method, options: given }]
  await control.addHost({ name: 'n1', interfaces: [{ mac, ip: '127.0.0.1' }], powerMethods }, admin)
})
afterEach(async () => {
  await engine?.close()
  engine = undefined
  await sim.close()
  await world.close()
})

async function startIt(powerDb = world.db): Promise<void> {
  const power = inProcess(powerPort, powerHandlers({ ...world, db: powerDb }))
  engine = await startEngine({ ...world, power, coldSeconds: 1 })
}

async function begin(): Promise<number> {
  const { rollout } = await control.startRollout({ nodeset: 'n1', setup: 'demo' }, admin)
  return rollout.deployments[0]?.id ?? 0
}

const view = async (deployment: number) => (await control.getDeployment({ deployment }, admin)).deployment

async function reaches(deployment: number, state: DeploymentState): Promise<void> {
  await until(state, async () => (await view(deployment)).state === state, { timeoutMs: 40_000, everyMs: 20 })
}

/** Lets time pass as it does while the engine looks: a jump would be taken for a clock that was set. */
async function pass(deployment: number, ms: number): Promise<void> {
  for (let left = ms, step = 0; left >= 0; step = Math.min(left, 40_000), left -= step || 1) {
    world.clock.offsetMs += step
    const at = world.now()
    // A look puts the row off by a second.
    const wasLookedAt = async (): Promise<boolean> => {
      const row = await findDeployment(world.db, deployment)
      return row.state === 'powering' || !isActive(row.state) || row.due_at >= at + 1000
    }
    await until('a look', wasLookedAt, { timeoutMs: 30_000, everyMs: 20 })
  }
}

/** What a machine sends when it boots: an event of its host's timeline, as boot/record.ts writes it. */
async function machineSends(deployment: number, source: string, kind: string): Promise<void> {
  const { host_id } = await findDeployment(world.db, deployment)
  await addEvent(
    world.db,
    { source, kind, text: `${kind} of the machine`, hostId: host_id, deploymentId: deployment },
    world.now(),
  )
}

/** Registers as the agent of the machine would, with the token of its kernel arguments. */
async function agentRegisters(): Promise<Caller> {
  const boot = await bootByMac(world.db, mac)
  const token = boot?.deployment && bootToken(world.keyring, boot.deployment)
  const caller: Caller = { kind: 'bearer', token: token?.reveal() ?? '', address: '127.0.0.1' }
  const registration = { host: 'n1', agent: randomUUID(), agentVersion: '1', inventory: exampleInventory }
  const { sessionKey } = await service.registerHost(registration, caller)
  return { ...caller, token: sessionKey }
}

test('a deployment goes from power-on to the observed new system', async () => {
  await startIt()
  const id = await begin()
  await reaches(id, 'booting')
  expect(sim.power('n1')).toBe('on')
  expect(sim.events).toContainEqual({ machine: 'n1', kind: 'boot', device: 'pxe' })
  const agent = await agentRegisters()
  await service.completeDeployment({ deployment: id, proof: exampleProof }, agent)
  expect((await view(id)).state).toBe('rebooting')
  await machineSends(id, 'dhcp', 'dhcp-system')
  await reaches(id, 'done')
  expect((await view(id)).states.map(({ step }) => step)).toEqual([
    'queued',
    'powering',
    'booting',
    'deploying',
    'rebooting',
    'done',
  ])
})

test.each(['queued', 'powering', 'booting', 'deploying', 'rebooting'] as const)(
  'an engine that dies while a deployment is %s is followed by one that goes on',
  async (state) => {
    if (state === 'powering') sim.behave('n1', { lateMs: 1500 })
    if (state !== 'queued') await startIt()
    const id = await begin()
    if (state === 'powering') await reaches(id, 'powering')
    else if (state !== 'queued') await reaches(id, 'booting')
    const agent = state === 'deploying' || state === 'rebooting' ? await agentRegisters() : undefined
    const complete = (caller: Caller) => service.completeDeployment({ deployment: id, proof: exampleProof }, caller)
    if (agent && state === 'rebooting') await complete(agent)
    // What a killed process leaves: the claim on the row, and nothing else.
    await engine?.close()
    await world.db.updateTable('deployments').set({ lease_owner: 'killed', lease_beat: 7 }).execute()
    await startIt()
    if (!agent) await reaches(id, 'booting')
    if (state !== 'rebooting') await complete(agent ?? (await agentRegisters()))
    await machineSends(id, 'dhcp', 'dhcp-system')
    await reaches(id, 'done')
  },
  // A controller that is late ends the command of before first.
  90_000,
)

test('a wrong password fails the deployment at once and is tried only once', async () => {
  const { address, options } = sim.method('n1')
  const given = Object.entries(options).map(([name, value]) => ({ name, value }))
  const powerMethods = [{ driver: 'ipmi', address, username: 'hades', password: 'wrong', options: given }]
  await control.changeHost({ name: 'n1', powerMethods }, admin)
  await startIt()
  const id = await begin()
  await reaches(id, 'failed')
  expect(await view(id)).toMatchObject({ failedStep: 'powering', failure: { code: 'bmc-refused' } })
  expect((await control.listBoot({}, admin)).records[0]?.target).toBe('local')
})

test('a silent controller is asked again until it answers, and the deployment can be cancelled meanwhile', async () => {
  sim.silence()
  await startIt()
  const id = await begin()
  await reaches(id, 'powering')
  await control.cancelRollout({ rollout: 1 }, admin)
  expect((await view(id)).state).toBe('cancelled')
  sim.wake()
  const next = await begin()
  await reaches(next, 'booting')
})

test('a host whose cancelled deployment is still claimed gets no order for its next one until the claim is given back', async () => {
  const first = await begin()
  await control.cancelRollout({ rollout: 1 }, admin)
  await world.db.updateTable('deployments').set({ lease_owner: 'another' }).where('id', '=', first).execute()
  const next = await begin()
  const claim = () => claimDue(world.db, { owner: 'mine', limit: 10 }, world.now())
  expect(await claim()).toEqual([])
  await releaseClaim(world.db, await findDeployment(world.db, first), 'another', world.now())
  expect((await claim()).map(({ id }) => id)).toEqual([next])
})

test('a database that is away while a controller is to be asked is no answer of the controller', async () => {
  await startIt(losing(world.db, 2))
  const id = await begin()
  const isBooting = async (): Promise<boolean> => {
    world.clock.offsetMs += 1000
    return (await view(id)).state === 'booting'
  }
  await until('the machine to be switched', isBooting, { timeoutMs: 30_000, everyMs: 100 })
  const { tries } = await findDeployment(world.db, id)
  expect(tries).not.toContain('database')
})

test('a machine that never boots is power-cycled, then fails with what was last seen of it', async () => {
  await startIt()
  const id = await begin()
  await reaches(id, 'booting')
  await machineSends(id, 'tftp', 'tftp-asked')
  await pass(id, bootStallMs + 1000)
  await until('the second attempt', async () => (await view(id)).attempt === 2, { timeoutMs: 10_000 })
  await reaches(id, 'booting')
  await pass(id, 11 * 60_000)
  await reaches(id, 'failed')
  const { failure } = await view(id)
  expect(failure?.code).toBe('boot-timeout')
  expect(failure?.message[0]).toMatch(/asked for nothing/)
})

test('an agent that falls silent loses its key, and its machine gets another attempt', async () => {
  await startIt()
  const id = await begin()
  await reaches(id, 'booting')
  const lost = await agentRegisters()
  await pass(id, agentSilenceMs + 1000)
  await until('the second attempt', async () => (await view(id)).attempt === 2, { timeoutMs: 10_000 })
  const progress = { step: 'transfer', doneBytes: 1, totalBytes: 2, bytesPerSecond: 1 } as const
  await expect(service.reportProgress({ deployment: id, ...progress }, lost)).rejects.toMatchObject({
    code: 'token-refused',
  })
  await reaches(id, 'booting')
  await service.completeDeployment({ deployment: id, proof: exampleProof }, await agentRegisters())
  expect((await view(id)).state).toBe('rebooting')
})

test('a machine that boots again in the middle starts over without its power being touched', async () => {
  await startIt()
  const id = await begin()
  await reaches(id, 'booting')
  await agentRegisters()
  const switched = sim.events.length
  world.clock.offsetMs += 1000
  await machineSends(id, 'tftp', 'boot-script')
  await until('the second attempt', async () => (await view(id)).attempt === 2, { timeoutMs: 10_000 })
  expect((await view(id)).state).toBe('booting')
  expect(sim.events.length).toBe(switched)
  await agentRegisters()
})

test('a new system that does not show itself is booted from its disk once, then the deployment fails', async () => {
  await startIt()
  const id = await begin()
  await reaches(id, 'booting')
  await service.completeDeployment({ deployment: id, proof: exampleProof }, await agentRegisters())
  await pass(id, 5 * 60_000 + 1000)
  await until('the disk', () => sim.events.some((event) => event.kind === 'boot' && event.device === 'default'), {
    timeoutMs: 15_000,
  })
  await pass(id, 5 * 60_000)
  await reaches(id, 'failed')
  expect((await view(id)).failure).toMatchObject({ code: 'probe-timeout' })
})

test.each([3, -3])(
  'a clock that is set by %i hours in the middle of a boot neither fails nor wedges the deployment',
  async (hours) => {
    await startIt()
    const id = await begin()
    await reaches(id, 'booting')
    await machineSends(id, 'tftp', 'tftp-asked')
    world.clock.offsetMs += hours * 3_600_000
    await pass(id, 30_000)
    expect(await view(id)).toMatchObject({ state: 'booting', attempt: 1 })
    const agent = await agentRegisters()
    await service.completeDeployment({ deployment: id, proof: exampleProof }, agent)
    await machineSends(id, 'dhcp', 'dhcp-system')
    await reaches(id, 'done')
  },
)

test('a controller that refuses is passed over for the next power method of the host', async () => {
  const { address, options, username, password } = sim.method('n1')
  const given = Object.entries(options).map(([name, value]) => ({ name, value }))
  const method = { driver: 'ipmi', address, options: given }
  const powerMethods = [
    { ...method, username: 'nobody', password: 'wrong' },
    { ...method, username, password: password.reveal() },
  ]
  await control.changeHost({ name: 'n1', powerMethods }, admin)
  await startIt()
  const id = await begin()
  await reaches(id, 'booting')
  expect((await view(id)).tries).toMatchObject([
    { step: 'power', how: 'hard, by power method 1', code: 'bmc-refused' },
    { step: 'power', how: 'hard, by power method 2', outcome: 'the machine is on' },
  ])
})

test('an attempt whose transfer failed at the origin is followed by one that is told to fetch by HTTP', async () => {
  await startIt()
  const id = await begin()
  await reaches(id, 'booting')
  const agent = await agentRegisters()
  const report = { step: 'transfer', code: 'origin-unreachable', message: ['no route'], log: 'the tail' } as const
  await service.reportFailure({ deployment: id, ...report, message: [...report.message] }, agent)
  await until('the second attempt', async () => (await view(id)).attempt === 2, { timeoutMs: 10_000 })
  await reaches(id, 'booting')
  expect(await findDeployment(world.db, id)).toMatchObject({ transfer_engine: 'http', log: 'the tail' })
})
