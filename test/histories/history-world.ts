// The world of one history: a database, up to two service processes on it, machines, one true time that passes only when the
// history says so; and the laws that hold after every step, whatever happens.
import type { Kysely } from 'kysely'
import { inProcess } from '../../src/client/client.ts'
import type { Handlers } from '../../src/contract/operation.ts'
import { type powerOperations, powerPort } from '../../src/contract/power.ts'
import type { FailureReport, PowerOutcome } from '../../src/contract/types.ts'
import { setBootTarget } from '../../src/db/boot.ts'
import { beatEveryMs } from '../../src/db/claims.ts'
import { activeDeployments, addRollout, findDeployment, statesOf } from '../../src/db/deployments.ts'
import { findHosts } from '../../src/db/hosts.ts'
import type { Schema } from '../../src/db/schema.ts'
import { agentSilenceMs } from '../../src/deploy/decide.ts'
import type { Keyring } from '../../src/lib/seal.ts'
import { isActive, mayMove } from '../../src/model/deployment.ts'
import { defaultTransferPolicy } from '../../src/model/transfer-policy.ts'
import { readTries } from '../../src/model/tries.ts'
import { cancelDeployments } from '../../src/operations/cancel.ts'
import type { World } from '../../src/operations/world.ts'
import { type Behaviour, type Machine, startMachine } from './machine.ts'
import { isFate, Killed, type ServiceProcess, startProcess } from './service-process.ts'

/** What all histories share: it is costly to make. */
export type Ground = {
  readonly db: Kysely<Schema>
  readonly world: Omit<World, 'db' | 'now' | 'log' | 'owner'>
  readonly setupId: number
  /** By name, with their MAC addresses. */
  readonly hosts: readonly { readonly id: number; readonly name: string; readonly mac: string }[]
}

/** The setup of every history. */
export const historySetup = `<setup xmlns="urn:hades:setup:1" name="history"><disk><image>debian:12</image></disk>
  <deadlines boot="4min" deploy="8min" observe="4min" attempts="2"/></setup>`

const minute = 60_000
/**
 * From the last fault to the end of everything: attempts of the setup and those that outages may add, each with its orders,
 * its boot and its work; then the new system; and a takeover before each of them.
 */
export const endsWithinMs = (2 + 5) * (5 + 1.5 + 4 + 8 + 2) * minute + (4 + 3 * 1.5 + 2) * minute + 2 * minute

/** From the last word of an agent, or the last fault: its silence, a takeover, and two looks. */
const silenceMetMs = agentSilenceMs + 60_000 + 2 * 40_000

/** A controller that is slow answers after so long. */
const slowMs = 70_000

/** Who waits for a slow controller: since when it is to answer, and the claim under which it was asked. */
type Slow = {
  readonly atMs: number
  readonly process: ServiceProcess
  readonly host: string
  readonly claim: string | null | undefined
  readonly end: () => void
}

export class HistoryWorld {
  readonly db: Kysely<Schema>
  readonly keyring: Keyring
  readonly nobody = new Error('no service is there')
  readonly processes = new Map<'a' | 'b', ServiceProcess>()
  /** Machines whose new system has been seen on the network. */
  readonly shown = new Set<string>()
  readonly #ground: Ground
  readonly #machines = new Map<string, Machine>()
  readonly #agents = new Map<string, string>()
  readonly #heard = new Map<string, number>()
  readonly #orders = new Set<string>()
  readonly #inFlight = new Map<string, ServiceProcess>()
  readonly #slow: Slow[] = []
  readonly #ended = new Map<number, string>()
  readonly #broken: string[] = []
  #trueMs = 1_700_000_000_000
  #turns = 0

  constructor(ground: Ground, behaviours: readonly Behaviour[]) {
    this.#ground = ground
    this.db = ground.db
    this.keyring = ground.world.keyring
    for (const [index, { name, mac }] of ground.hosts.entries()) {
      const behaviour = behaviours[index]
      if (behaviour) this.#machines.set(name, startMachine(this, name, mac, behaviour))
    }
  }

  readonly trueMs = (): number => this.#trueMs

  /** A law: what breaks one is told by `laws`. */
  expect(isSo: boolean, otherwise: string): void {
    if (!isSo) this.#broken.push(otherwise)
  }

  /** The process that machines reach; throws `nobody`. */
  process(): ServiceProcess {
    for (const one of this.processes.values()) if (one.isAlive() && !one.isPaused) return one
    throw this.nobody
  }

  start(name: 'a' | 'b'): void {
    const there = this.processes.get(name)
    if (there) there.isPaused = false
    if (there?.isAlive()) return
    const { db, world } = this.#ground
    const started = startProcess({
      db,
      world,
      trueMs: this.trueMs,
      powerOf: (process) => inProcess(powerPort, this.#power(process)),
      onError: (error, message) => {
        if (!isFate(error)) this.expect(false, `${message}: ${String(error)}`)
      },
    })
    this.processes.set(name, started)
  }

  /** Time passes, in parts that no engine takes for an outage; machines and living services do what is due. */
  async pass(ms: number, everyMs = 20_000): Promise<void> {
    for (let left = ms; left > 0; left -= everyMs) {
      await this.#tick(Math.min(left, everyMs))
      for (const machine of this.#machines.values()) await machine.act()
      // Whoever asks first gets the rows: each does in turn.
      this.#turns += 1
      const inOrder = [...this.processes.values()]
      if (this.#turns % 2 === 0) inOrder.reverse()
      await Promise.all(inOrder.map((one) => this.#turn(one)))
    }
  }

  /** Time passes; whoever waits for a slow controller keeps its claims meanwhile, as often as it really would. */
  async #tick(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= beatEveryMs) {
      this.#trueMs += Math.min(left, beatEveryMs)
      for (const slow of this.#slow.splice(0)) {
        if (slow.atMs <= this.#trueMs && !slow.process.isPaused) {
          await this.#answer(slow)
        } else this.#slow.push(slow)
      }
      if ([...this.processes.values()].every(({ works }) => works.size === 0)) continue
      for (const one of this.processes.values()) await this.#keep(one)
    }
  }

  /** Law: what a controller answers to one that has lost its claim is not written. It may hear the answer first, when it wakes up. */
  async #answer({ process, host, claim, end }: Slow): Promise<void> {
    const before = await this.#newestOf(host)
    end()
    await settled(process)
    if (before?.lease_owner === claim) return
    const isSame = JSON.stringify(before) === JSON.stringify(await this.#newestOf(host))
    this.expect(isSame, `deployment ${before?.id} was changed by a service that had lost it`)
  }

  async #newestOf(host: string) {
    const id = this.#ground.hosts.find(({ name }) => name === host)?.id ?? 0
    const rows = this.db.selectFrom('deployments').selectAll().where('host_id', '=', id)
    return await rows.orderBy('id', 'desc').limit(1).executeTakeFirst()
  }

  async #keep(process: ServiceProcess): Promise<void> {
    if (!process.isAlive() || process.isPaused) return
    process.engine.watch()
    for (const part of [process.engine.beat, process.engine.relieve]) {
      await part().catch((error: unknown) => {
        if (!isFate(error)) throw error
      })
    }
    await settled(process)
  }

  /** One turn of a living engine's loops. */
  async #turn(process: ServiceProcess): Promise<void> {
    if (!process.isAlive() || process.isPaused) return
    try {
      await this.#keep(process)
      for (const work of await process.engine.look()) {
        const one = work.finally(() => process.works.delete(one))
        process.works.add(one)
      }
      await settled(process)
    } catch (error) {
      if (!isFate(error)) throw error
    }
  }

  /** Begins a rollout as startRollout does; what has a deployment under way is refused. */
  async begin(names: readonly string[]): Promise<void> {
    const hosts = this.#ground.hosts.filter(({ name }) => names.includes(name))
    const ids = hosts.map(({ id }) => id)
    await this.db.transaction().execute(async (tx) => {
      const busy = await activeDeployments(tx, ids)
      const free = ids.filter((id) => !busy.has(id))
      if (free.length === 0) return
      const rollout = { setupId: this.#ground.setupId, images: [], hostIds: free, policy: defaultTransferPolicy }
      const { deployments } = await addRollout(tx, rollout, this.#trueMs)
      for (const [hostId, deploymentId] of deployments) {
        await setBootTarget(tx, hostId, { target: 'scout', deploymentId }, this.#trueMs)
        this.shown.delete(hosts.find(({ id }) => id === hostId)?.name ?? '')
      }
    })
  }

  async cancel(): Promise<void> {
    const newest = await this.db
      .selectFrom('rollouts')
      .select((eb) => eb.fn.max('id').as('id'))
      .executeTakeFirst()
    if (!newest?.id) return
    const caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' } as const
    const { id } = newest
    await this.db.transaction().execute((tx) => cancelDeployments(tx, id, undefined, caller, this.#trueMs))
  }

  /** A process stands still for a while, as a virtual machine does that is suspended, and wakes up in the middle of its work. */
  async standStill(name: 'a' | 'b', ms: number): Promise<void> {
    const process = this.processes.get(name)
    if (process) process.isPaused = true
    await this.pass(ms)
    if (process) process.isPaused = false
  }

  /** As an operator does who sees a mistake: controllers may still be carrying out what the cancelled ones asked of them. */
  async beginAgain(names: readonly string[]): Promise<void> {
    await this.cancel()
    await this.begin(names)
  }

  /** An agent was registered: the same one may be told so again, no other. Returns the attempt. */
  async registered(deployment: number, agent: string): Promise<number> {
    const { attempt } = await findDeployment(this.db, deployment)
    const key = `${deployment}/${attempt}`
    this.expect((this.#agents.get(key) ?? agent) === agent, 'two agents were registered for one attempt')
    this.#agents.set(key, agent)
    return attempt
  }

  /** An agent was answered. */
  heard(deployment: number, attempt: number): void {
    this.#heard.set(`${deployment}/${attempt}`, this.#trueMs)
  }

  /** Law: an agent that is silent for too long is given up, however long its work may last. */
  async #silenceIsMet(sinceMs: number): Promise<void> {
    const rows = await this.db
      .selectFrom('deployments')
      .select(['id', 'attempt'])
      .where('state', '=', 'deploying')
      .execute()
    for (const { id, attempt } of rows) {
      const silentMs = this.#trueMs - Math.max(sinceMs, this.#heard.get(`${id}/${attempt}`) ?? 0)
      this.expect(silentMs <= silenceMetMs, `deployment ${id} waits for an agent that has been silent for too long`)
    }
  }

  /** The controllers of the machines, as a Power Port. */
  #power(process: () => ServiceProcess): Handlers<typeof powerOperations> {
    const rowOf = (host: string, failure?: FailureReport): { outcomes: PowerOutcome[] } => ({
      outcomes: [{ host, confirmed: failure === undefined, ...(failure ? { failure } : {}) }],
    })
    const devices = new Map<string, 'network' | 'disk'>()
    return {
      setBootDevice: async ({ nodeset, device }) => {
        devices.set(nodeset, device === 'disk' ? 'disk' : 'network')
        return rowOf(nodeset)
      },
      setPower: async ({ nodeset, method = 1 }, _caller, signal) => {
        const machine = this.#machines.get(nodeset)
        if (!machine) throw new Error(`no machine ${nodeset}`)
        // As the real one it looks the host up, and may find no database.
        await findHosts(process().db, [nodeset])
        await this.#countOrder(nodeset, process())
        const kind = machine.nextBmc()
        if (kind === 'slow' || kind === 'hangs') await this.#slowly(process(), nodeset, signal)
        if (this.#inFlight.get(nodeset) === process()) this.#inFlight.delete(nodeset)
        signal?.throwIfAborted()
        // What a killed process had begun to ask ends with it.
        if (!process().isAlive()) throw new Killed('the process was killed')
        if (kind === 'obeys' || kind === 'slow' || kind === 'lies') machine.cycle(devices.get(nodeset) ?? 'network')
        if (kind === 'refuses' && method === 1) return rowOf(nodeset, { code: 'bmc-refused', message: ['no'] })
        if (kind === 'silent' || kind === 'hangs')
          return rowOf(nodeset, { code: 'bmc-unreachable', message: ['silence'] })
        if (kind === 'lies') return rowOf(nodeset, { code: 'bmc-lies', message: ['still off'] })
        if (kind === 'refuses') machine.cycle(devices.get(nodeset) ?? 'network')
        return rowOf(nodeset)
      },
      getPower: async ({ nodeset }) => rowOf(nodeset),
      testPower: async ({ host }) => ({ outcome: { host, confirmed: true } }),
      listPowerDrivers: async () => ({ drivers: [] }),
    }
  }

  /** Law: every order has a number that was recorded before, and no two are under way for one machine. */
  async #countOrder(host: string, process: ServiceProcess): Promise<void> {
    const row = await this.#newestOf(host)
    if (!row) throw new Error(`an order for ${host}, which has no deployment`)
    const mine = readTries(row.tries).filter(({ step }) => step === 'power' || step === 'observe')
    const key = `${row.id}/${row.attempt}/${mine.length}`
    this.expect(mine.length > 0 && !this.#orders.has(key), `order ${key} was given twice, or was not recorded`)
    this.#orders.add(key)
    const other = this.#inFlight.get(host)
    // One that stands still cannot take back what it has asked; what comes of it is refused.
    this.expect(!other?.isAlive() || other.isPaused, 'two orders of the living were under way to one machine at once')
    this.#inFlight.set(host, process)
  }

  async #slowly(process: ServiceProcess, host: string, signal: AbortSignal | undefined): Promise<void> {
    const claim = (await this.#newestOf(host))?.lease_owner
    process.waiting += 1
    const slow = new Promise<void>((resolve) => {
      let isOver = false
      const end = (): void => {
        // At once: whoever asks whether the process has nothing to do but to wait must be told the truth.
        if (!isOver) process.waiting -= 1
        isOver = true
        resolve()
      }
      this.#slow.push({ atMs: this.#trueMs + slowMs, process, host, claim, end })
      signal?.addEventListener('abort', end)
    })
    process.onWaiting()
    await slow
  }

  /** Every law that was broken until now. */
  async laws(): Promise<string[]> {
    const rows = await this.db.selectFrom('deployments').selectAll().execute()
    for (const row of rows) {
      for (const [index, { state }] of statesOf(row).entries()) {
        const before = statesOf(row)[index - 1]?.state
        const movers = ['engine', 'agent', 'operator'] as const
        const isAllowed = before === undefined || movers.some((by) => mayMove(before, state, by))
        this.expect(isAllowed, `deployment ${row.id} went from ${before} to ${state}`)
      }
      for (const { attempt, outcome } of readTries(row.tries)) {
        const heardMs = this.#heard.get(`${row.id}/${attempt}`) ?? 0
        const isEarly = outcome?.includes('has reported nothing') && this.#trueMs - heardMs < agentSilenceMs
        this.expect(!isEarly, `the agent of deployment ${row.id} was heard and called silent`)
      }
      const isOfDatabase = readTries(row.tries).some(({ code }) => code === 'database-unavailable')
      this.expect(!isOfDatabase, `deployment ${row.id} has taken the database's silence for a controller's`)
      if (isActive(row.state)) continue
      const end = JSON.stringify([row.state, row.ended_at, row.attempt, row.history, row.proof])
      this.expect((this.#ended.get(row.id) ?? end) === end, `deployment ${row.id} changed after its end`)
      this.#ended.set(row.id, end)
      const host = this.#ground.hosts.find(({ id }) => id === row.host_id)
      const isNewest = !rows.some(({ host_id, id }) => host_id === row.host_id && id > row.id)
      if (row.state === 'done' && isNewest) {
        this.expect(this.shown.has(host?.name ?? ''), `deployment ${row.id} is done, and nobody saw its system`)
      }
    }
    const completions = await this.db
      .selectFrom('events')
      .select(['deployment_id', (eb) => eb.fn.countAll<number>().as('count')])
      .where('kind', '=', 'completed')
      .groupBy('deployment_id')
      .execute()
    for (const { deployment_id, count } of completions) {
      this.expect(count === 1, `deployment ${deployment_id} was completed ${count} times`)
    }
    return this.#broken
  }

  /** After the last fault: clocks are right, one service or both are there, and everything ends in time. */
  async drain(): Promise<string[]> {
    this.start('a')
    for (const one of this.processes.values()) {
      one.skewMs = 0
      one.killIn(Number.POSITIVE_INFINITY)
      one.awayFor(0)
      one.isPaused = false
    }
    const startMs = this.#trueMs
    const end = startMs + endsWithinMs
    while (this.#trueMs < end && (await this.#isUnderWay())) {
      await this.pass(40_000, 40_000)
      await this.#silenceIsMet(startMs)
    }
    // A claim of the end is given back a little later, when a slow controller has answered, or freed.
    await this.pass(slowMs + 60_000)
    this.expect(!(await this.#isUnderWay()), `a deployment has not ended within ${endsWithinMs / minute} min`)
    const claims = await this.db.selectFrom('deployments').select('id').where('lease_owner', 'is not', null).execute()
    this.expect(claims.length === 0, 'a claim was left')
    const ids = this.#ground.hosts.map(({ id }) => id)
    const records = await this.db.selectFrom('boot_records').selectAll().where('host_id', 'in', ids).execute()
    for (const { host_id, target, deployment_id } of records) {
      this.expect(target === 'local' && deployment_id === null, `host ${host_id} still boots ${target}`)
    }
    return await this.laws()
  }

  async #isUnderWay(): Promise<boolean> {
    const rows = await this.db.selectFrom('deployments').select('state').execute()
    return rows.some(({ state }) => isActive(state))
  }
}

/** Resolves when the process has nothing to do but to wait for slow controllers. */
async function settled(process: ServiceProcess): Promise<void> {
  while (process.isAlive() && process.works.size > process.waiting) {
    const waits = new Promise<void>((resolve) => {
      process.onWaiting = resolve
    })
    await Promise.race([...process.works, waits])
  }
}

/** Takes away what the history before has left. */
export async function clear({ db, hosts }: Ground): Promise<void> {
  for (const table of ['events', 'approved_disks', 'inventories', 'deployments', 'rollouts'] as const) {
    await db.deleteFrom(table).execute()
  }
  for (const { id } of hosts) await setBootTarget(db, id, { target: 'local', asDefault: true }, 0)
}
