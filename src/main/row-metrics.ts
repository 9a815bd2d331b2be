// The figures that stand in the database: read when somebody asks for them, the same whichever service is asked. Deployments that
// have ended since the last look are added to histograms, so that none is missed while nobody looks.
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { Proof } from '../contract/types.ts'
import { countDeployments, countRunningTasks, type EndedDeployment, endedAfter } from '../db/figures.ts'
import { countHosts } from '../db/hosts.ts'
import { listImages } from '../db/images.ts'
import type { World } from '../operations/world.ts'
import { slow } from './metrics-buckets.ts'

/** Of deployments that ended since the last look; what is more comes at the next. */
const endedMax = 2000

/** Adds the figures; what it returns reads them anew and never throws: the others are worth having without the database. */
export function addRowMetrics(
  register: Registry,
  { db, log, now }: Pick<World, 'db' | 'log' | 'now'>,
): () => Promise<void> {
  const registers = [register]
  const hosts = new Gauge({ name: 'hades_hosts', help: 'Hosts that are known', registers })
  const images = new Gauge({ name: 'hades_images', help: 'Images in the library', registers })
  const tasks = new Gauge({ name: 'hades_tasks_running', help: 'Long operations under way', registers })
  const deployments = new Gauge({
    name: 'hades_deployments',
    help: 'Deployments by kind and state, those that have ended too, as long as they are kept',
    labelNames: ['kind', 'state'],
    registers,
  })
  const failed = new Counter({ name: 'hades_figures_failed_total', help: 'Looks at the rows that failed', registers })
  const addEnded = endedMetrics(register)
  let seen = { at: now(), id: 0 }
  return async () => {
    try {
      hosts.set(await countHosts(db))
      images.set((await listImages(db)).length)
      tasks.set(await countRunningTasks(db))
      const counts = await countDeployments(db)
      deployments.reset()
      for (const { kind, state, count } of counts) deployments.labels(kind, state).set(count)
      for (const row of await endedAfter(db, seen, endedMax)) {
        seen = { at: row.ended_at, id: row.id }
        addEnded(row)
      }
    } catch (error) {
      failed.inc()
      log.error({ err: error }, 'the figures could not be read from the database')
    }
  }
}

function endedMetrics(register: Registry): (row: EndedDeployment) => void {
  const registers = [register]
  const ended = new Counter({
    name: 'hades_deployments_ended_total',
    help: 'Deployments that ended since this service started, whichever service moved them',
    labelNames: ['kind', 'state', 'code'],
    registers,
  })
  const states = new Histogram({
    name: 'hades_deployment_state_seconds',
    help: 'How long deployments that ended were in each state',
    labelNames: ['state'],
    buckets: slow,
    registers,
  })
  const steps = new Histogram({
    name: 'hades_deployment_step_seconds',
    help: 'How long the steps of agents took in deployments with a proof',
    labelNames: ['step'],
    buckets: slow,
    registers,
  })
  return ({ kind, state, failure, history, proof }) => {
    // What the service itself has written: failure reports, `[{state, at}]`, proofs that fitted the contract.
    const code = failure === null ? 'none' : (JSON.parse(failure) as { code: string }).code
    ended.labels(kind, state, code).inc()
    const entered = JSON.parse(history) as readonly { readonly state: string; readonly at: number }[]
    for (const [i, { state, at }] of entered.entries()) {
      const next = entered[i + 1]
      if (next) states.labels(state).observe((next.at - at) / 1000)
    }
    const { steps: told = [] } = proof === null ? {} : (JSON.parse(proof) as Pick<Proof, 'steps'>)
    for (const { step, seconds } of told) steps.labels(step).observe(seconds)
  }
}
