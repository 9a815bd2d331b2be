// A machine as the histories play it, at its edge only: what its controller answers, what it asks the boot services, and what
// the agent in it calls. Behaviours come from the generator, one after the other; the last one stays.
import { randomUUID } from 'node:crypto'
import type { Kysely } from 'kysely'
import type { Caller } from '../../src/contract/operation.ts'
import { bootByMac } from '../../src/db/boot.ts'
import { addEvent } from '../../src/db/events.ts'
import type { Schema } from '../../src/db/schema.ts'
import type { Keyring } from '../../src/lib/seal.ts'
import { Failure } from '../../src/model/failure.ts'
import { bootToken } from '../../src/model/token.ts'
import { exampleInventory, exampleProof } from '../../src/operations/testing.ts'
import { isFate, type ServiceProcess } from './service-process.ts'

/**
 * What a controller does with an order. `pretends`: says yes and does nothing. `lies`: says no and does it. `slow` takes more
 * than a minute, in which other things happen; `hangs` as long, and then it was for nothing.
 */
export const bmcBehaviours = ['obeys', 'silent', 'refuses', 'pretends', 'lies', 'slow', 'hangs'] as const
export type BmcBehaviour = (typeof bmcBehaviours)[number]

/** What a switched-on machine does: boots what its record says, asks for nothing, or stops half-way. */
export const bootBehaviours = ['boots', 'dead', 'stalls'] as const

/**
 * What an agent does. `twins`: a second one has the same token. `doubles`: says everything twice, in the wrong order, and what
 * it said in earlier attempts again. `liar`: claims that all is done and written, and the disk holds nothing.
 */
export const agentBehaviours = [
  'good',
  'fails',
  'fails-for-good',
  'silent',
  'stuck',
  'reboots',
  'twins',
  'doubles',
  'liar',
  'old',
] as const
export type AgentBehaviour = (typeof agentBehaviours)[number]

export type Behaviour = {
  readonly bmc: readonly BmcBehaviour[]
  readonly boot: readonly (typeof bootBehaviours)[number][]
  readonly agent: readonly AgentBehaviour[]
  readonly delayMs: number
}

type Session = { readonly deployment: number; readonly attempt: number; readonly caller: Caller; sequence: number }

export type Machine = {
  readonly name: string
  readonly mac: string
  /** An order of a controller that is carried out. */
  cycle(device: 'network' | 'disk'): void
  /** What its controller does with the next order. */
  nextBmc(): BmcBehaviour
  /** Does what is due. */
  act(): Promise<void>
}

/** What machines know of the world that they stand in. */
export type MachineWorld = {
  readonly db: Kysely<Schema>
  readonly keyring: Keyring
  readonly trueMs: () => number
  /** Thrown by `process` when no service is there. */
  readonly nobody: Error
  /** The service that machines reach. */
  process(): ServiceProcess
  /** Machines whose new system has been seen on the network. */
  readonly shown: Set<string>
  expect(isSo: boolean, otherwise: string): void
  /** An agent was registered; returns the attempt. */
  registered(deployment: number, agent: string): Promise<number>
  /** A report of an agent was taken. */
  heard(deployment: number, attempt: number): void
}

const againMs = 10_000

export function startMachine(world: MachineWorld, name: string, mac: string, behaviour: Behaviour): Machine {
  let bmcs = 0
  let boots = 0
  let agents = 0
  let hasSystem = false
  let plan: { readonly atMs: number; readonly act: () => Promise<void> } | undefined
  const sessions: Session[] = []
  const inMs = (ms: number, act: () => Promise<void>): void => {
    plan = { atMs: world.trueMs() + ms, act }
  }
  const tell = async (source: string, kind: string): Promise<void> => {
    const view = await bootByMac(world.db, mac)
    const event = { source, kind, text: `${kind} of ${name}`, hostId: view?.hostId, deploymentId: view?.deployment?.id }
    await addEvent(world.db, event, world.trueMs())
  }
  const next = <T>(list: readonly T[], index: number): T => list[Math.min(index, list.length - 1)] as T

  const startSystem = async (): Promise<void> => {
    if (!hasSystem) return
    world.shown.add(name)
    await tell('dhcp', 'dhcp-system')
  }
  const askForScript = async (): Promise<void> => {
    const view = await bootByMac(world.db, mac)
    await tell('tftp', 'boot-script')
    if (view?.record.target !== 'scout') return inMs(behaviour.delayMs, startSystem)
    const token = view.deployment && bootToken(world.keyring, view.deployment)
    if (!token) return inMs(againMs, askForScript)
    const kind = next(behaviour.agent, agents)
    agents += 1
    inMs(behaviour.delayMs, () => register(kind, token.reveal(), randomUUID()))
  }
  const boot = async (): Promise<void> => {
    const kind = next(behaviour.boot, boots)
    boots += 1
    if (kind === 'dead') return
    await tell('dhcp', 'dhcp-discover')
    if (kind === 'boots') inMs(behaviour.delayMs, askForScript)
  }

  /** Calls the service that is there; `again` when none is, or it died under the call. Undefined: the work has ended. */
  const call = async <T>(
    again: () => Promise<void>,
    ask: (service: ServiceProcess) => Promise<T>,
  ): Promise<T | undefined> => {
    try {
      return await ask(world.process())
    } catch (error) {
      if (isFate(error) || error === world.nobody) inMs(againMs, again)
      else if (error instanceof Failure && error.code === 'wrong-state') inMs(againMs, again)
      // A conflict in the database is nothing that an agent should hear of.
      else if (!(error instanceof Failure) || error.code === 'database-unavailable') throw error
      return undefined
    }
  }

  async function register(kind: AgentBehaviour, token: string, agent: string): Promise<void> {
    const input = { host: name, agent, agentVersion: kind === 'old' ? '0.0.1' : '1', inventory: exampleInventory }
    const caller: Caller = { kind: 'bearer', token, address: name }
    const again = () => register(kind, token, agent)
    const registered = await call(again, ({ service }) => service.registerHost(input, caller))
    if (!registered || registered.instructions.action === 'stop') return
    const { deployment, sessionKey } = registered
    const attempt = await world.registered(deployment, agent)
    world.heard(deployment, attempt)
    const session = { deployment, attempt, caller: { ...caller, token: sessionKey }, sequence: 0 }
    sessions.push(session)
    if (kind === 'twins') {
      const twin = { ...input, agent: randomUUID() }
      const second = await call(
        async () => {},
        ({ service }) => service.registerHost(twin, caller),
      )
      world.expect(second === undefined, 'a boot token was good for two agents')
    }
    inMs(behaviour.delayMs, () => work(kind, session, 2))
  }

  async function progress(session: Session, sequence: number, again: () => Promise<void>): Promise<boolean> {
    const { deployment, caller } = session
    const report = { deployment, step: 'transfer', doneBytes: sequence, totalBytes: 9, bytesPerSecond: 1 } as const
    const answer = await call(again, ({ service }) => service.reportProgress({ ...report, sequence }, caller))
    if (answer?.action === 'continue') world.heard(deployment, session.attempt)
    return answer?.action === 'continue'
  }

  async function work(kind: AgentBehaviour, session: Session, left: number): Promise<void> {
    const again = () => work(kind, session, left)
    if (kind === 'silent') return
    if (kind === 'doubles') await sayAgain()
    if (kind !== 'liar' && left > 0) {
      session.sequence += 1
      if (!(await progress(session, session.sequence, again))) return
      if (kind === 'doubles') await progress(session, session.sequence - 1, async () => {})
      inMs(behaviour.delayMs, () => work(kind, session, kind === 'stuck' ? 1 : left - 1))
      return
    }
    if (kind === 'reboots') return inMs(againMs, boot)
    const { deployment, caller } = session
    if (kind === 'fails' || kind === 'fails-for-good') {
      const code = kind === 'fails' ? 'origin-unreachable' : 'disk-error'
      const failure = { deployment, step: 'transfer', code, message: ['it failed'], log: '' } as const
      await call(again, ({ service }) => service.reportFailure({ ...failure, message: [...failure.message] }, caller))
      return
    }
    const complete = () =>
      call(again, ({ service }) => service.completeDeployment({ deployment, proof: exampleProof }, caller))
    const answer = await complete()
    if (answer?.action !== 'continue') return
    if (kind === 'doubles') await complete()
    hasSystem = kind !== 'liar'
    world.shown.delete(name)
    inMs(behaviour.delayMs, boot)
  }

  /** What was said in attempts before: refused, each. */
  async function sayAgain(): Promise<void> {
    const current = sessions.at(-1)
    for (const old of sessions) {
      if (old.deployment === current?.deployment && old.attempt === current.attempt) continue
      const kept = plan
      world.expect(!(await progress(old, 1_000_000, async () => {})), 'a report of an earlier attempt was taken')
      plan = kept
    }
  }

  return {
    name,
    mac,
    cycle(device) {
      inMs(againMs, device === 'disk' ? startSystem : boot)
    },
    nextBmc() {
      const kind = next(behaviour.bmc, bmcs)
      bmcs += 1
      return kind
    },
    async act() {
      if (!plan || plan.atMs > world.trueMs()) return
      const { act } = plan
      plan = undefined
      await act()
    },
  }
}
