// Rows as the contract shows them: times as text, empty columns left out, no secret.
import type { CaptureReport, CaptureView, CaptureWork } from '../contract/capture-types.ts'
import type { ImageView } from '../contract/image-types.ts'
import type { LayoutView } from '../contract/layout-types.ts'
import type { SiteView } from '../contract/swarm-types.ts'
import type {
  DeploymentView,
  EventView,
  FailureReport,
  HostView,
  Hygiene,
  Proof,
  RebootOutcome,
  TaskView,
} from '../contract/types.ts'
import { approvedDisksOf } from '../db/approved-disks.ts'
import { bootRecordsOf } from '../db/boot.ts'
import type { Capture } from '../db/captures.ts'
import { type NamedDeployment, newestDeployments, type Rollout, type StateTime } from '../db/deployments.ts'
import type { StoredEvent } from '../db/events.ts'
import { type Host, interfacesOf, inventoriesOf, powerMethodsOf } from '../db/hosts.ts'
import type { Image } from '../db/images.ts'
import type { Db } from '../db/open.ts'
import type { Reboot } from '../db/reboots.ts'
import type { listSites } from '../db/sites.ts'
import type { Task } from '../db/tasks.ts'
import { targetNow } from '../model/boot.ts'
import { causeChain, Failure } from '../model/failure.ts'
import type { DiskHint } from '../model/host.ts'
import { formatImageReference } from '../model/image.ts'
import type { Layout } from '../model/layout.ts'
import { readTries } from '../model/tries.ts'
import { transferOf } from './transfers.ts'

export function dateTime(ms: number): string {
  return new Date(ms).toISOString()
}

/** The fields of `object` that have a value: the contract leaves out what there is not. */
export function present<T extends object>(object: T): { [K in keyof T]: Exclude<T[K], null | undefined> } {
  return Object.fromEntries(
    Object.entries(object).filter(([, value]) => value !== null && value !== undefined),
  ) as never
}

/** How a rollout's hosts get the image. One of before there were engines went by HTTP and kept no host as a source. */
export function policyView(rollout: Rollout) {
  return {
    engine: rollout.engine ?? ('http' as const),
    redeploy: rollout.redeploy ?? ('full' as const),
    lingerSeconds: rollout.linger_seconds ?? 0,
    ...limitsView(rollout),
  }
}

function limitsView(row: Pick<Rollout, 'egress_bytes_per_second' | 'ingress_bytes_per_second'>) {
  return present({
    egressBytesPerSecond: row.egress_bytes_per_second,
    ingressBytesPerSecond: row.ingress_bytes_per_second,
  })
}

export function siteView(site: Awaited<ReturnType<typeof listSites>>[number]): SiteView {
  return { name: site.name, hosts: site.hosts, ...limitsView(site) }
}

/** Hosts whole, with everything that hangs on them, in as many queries as there are tables. */
export async function hostViews(db: Db, hosts: readonly Host[], now: number): Promise<HostView[]> {
  const ids = hosts.map((host) => host.id)
  const [interfaces, methods, records, inventories, approved, deployments] = [
    await interfacesOf(db, ids),
    await powerMethodsOf(db, ids),
    await bootRecordsOf(db, ids),
    await inventoriesOf(db, ids),
    await approvedDisksOf(db, ids),
    await newestDeployments(db, ids),
  ]
  return hosts.map((host) => {
    const record = records.get(host.id)
    const inventory = inventories.get(host.id)
    const deployment = deployments.get(host.id)
    return {
      name: host.name,
      loader: host.loader,
      ...present({ site: host.site, rack: host.rack, setup: host.setup }),
      interfaces: (interfaces.get(host.id) ?? []).map((one) => ({ mac: one.mac, ...present({ ip: one.ip }) })),
      powerMethods: (methods.get(host.id) ?? []).map((method) => ({
        driver: method.driver,
        ...(method.address === '' ? {} : { address: method.address }),
        ...(method.username === '' ? {} : { username: method.username }),
        options: Object.entries(JSON.parse(method.options) as Record<string, string>).map(([name, value]) => ({
          name,
          value,
        })),
      })),
      bootTarget: record ? targetNow(record, now) : 'local',
      defaultTarget: record?.defaultTarget ?? 'local',
      ...(inventory ? { inventory: JSON.parse(inventory.json), inventoryAt: dateTime(inventory.at) } : {}),
      ...present({ approvedDisks: approved.get(host.id)?.map((disk) => present(disk)) }),
      ...(deployment ? { deployment: deployment.id, deploymentState: deployment.state } : {}),
      ...present({ protected: host.protected_reason }),
    }
  })
}

/** The layout as it travels: every one of its unions fits the type without unions. */
export function layoutView({ disks, arrays, groups }: Layout): LayoutView {
  // Copies, because the contract's lists are not read-only.
  return structuredClone({ disks, arrays, groups }) as LayoutView
}

export function imageView(image: Image): ImageView {
  return {
    reference: formatImageReference(image),
    digest: image.digest,
    sizeBytes: image.size_bytes,
    kind: image.kind,
    dataBytes: image.data_bytes,
    freeBytes: image.free_bytes,
    storedBytes: image.stored_bytes,
    publishedAt: dateTime(image.published_at),
    isProtected: image.is_protected === 1,
    volumes: [],
    ...present({ owner: image.owner, description: image.description, signature: image.signature }),
    ...(image.contents === null ? {} : (JSON.parse(image.contents) as Pick<ImageView, 'volumes' | 'archive'>)),
    ...(image.hygiene === null ? {} : { hygiene: JSON.parse(image.hygiene) as Hygiene }),
  }
}

export function taskView(task: Task, reboots?: readonly Reboot[]): TaskView {
  return {
    id: task.id,
    kind: task.kind,
    subject: task.subject,
    state: task.state,
    doneBytes: task.done_bytes,
    startedAt: dateTime(task.started_at),
    ...(task.total_bytes === null ? {} : { totalBytes: task.total_bytes }),
    ...(task.failure === null ? {} : { failure: JSON.parse(task.failure) as FailureReport }),
    ...(task.ended_at === null ? {} : { endedAt: dateTime(task.ended_at) }),
    ...(reboots && reboots.length > 0 ? { reboots: reboots.map(rebootView) } : {}),
  }
}

function rebootView(row: Reboot): RebootOutcome {
  return {
    host: row.host,
    target: row.target,
    state: row.state,
    ...present({ said: row.said }),
    ...(row.failure === null ? {} : { failure: JSON.parse(row.failure) as FailureReport }),
  }
}

/** A failure as it is stored and shown. What is no Failure is a defect, whose text is for the log and not for people. */
export function failureReport(error: unknown): FailureReport {
  if (!(error instanceof Failure)) return { code: 'internal', message: ['a defect of HaDeS; the log has the details'] }
  return { code: error.code, message: causeChain(error), ...(error.at === undefined ? {} : { at: error.at }) }
}

export function deploymentView(row: NamedDeployment, now: number): DeploymentView {
  const history = JSON.parse(row.history) as StateTime[]
  const end = row.ended_at ?? now
  return {
    id: row.id,
    rollout: row.rollout_id,
    host: row.host,
    kind: row.kind,
    setup: `${row.setup_name}:${row.setup_version}`,
    wave: row.wave,
    ...present({ retryOf: row.retry_of }),
    state: row.state,
    attempt: row.attempt,
    doneBytes: row.done_bytes,
    totalBytes: row.total_bytes,
    bytesPerSecond: row.bytes_per_second,
    startedAt: dateTime(row.started_at),
    stateSince: dateTime(row.state_since),
    states: history.slice(0, 64).map(({ state, at }, index) => ({
      step: state,
      seconds: ((history[index + 1]?.at ?? end) - at) / 1000,
    })),
    ...present({ transfer: transferOf(row), tries: triesView(row) }),
    ...present({ step: row.step, waitingFor: row.waiting_for, failedStep: row.failed_step, log: row.log }),
    ...(row.deadline_at === null ? {} : { deadlineAt: dateTime(row.deadline_at) }),
    ...(row.ended_at === null ? {} : { endedAt: dateTime(row.ended_at) }),
    ...(row.failure === null ? {} : { failure: JSON.parse(row.failure) as FailureReport }),
    ...(row.proof === null ? {} : { proof: proofView(row.proof) }),
  }
}

function triesView(row: NamedDeployment): DeploymentView['tries'] {
  const tries = readTries(row.tries).map(({ attempt, step, how, at, outcome, code }) => ({
    attempt,
    step,
    how,
    at: dateTime(at),
    ...present({ outcome: outcome?.slice(0, 4000), code }),
  }))
  return tries.length === 0 ? undefined : tries
}

/** A capture with its deployment. */
export function captureView(capture: Capture, row: NamedDeployment, now: number): CaptureView {
  const { size_bytes, digest, report } = capture
  return {
    image: formatImageReference(capture),
    ...orderOf(capture),
    frames: capture.frames,
    storedBytes: capture.stored_bytes,
    ...present({ sizeBytes: size_bytes, digest }),
    // Reader of our own JSON: `completeCapture` is its only writer.
    ...(report === null ? {} : { report: JSON.parse(report) as CaptureReport }),
    deployment: deploymentView(row, now),
  }
}

/** What the agent of a capture is told. */
export function captureWork(row: NamedDeployment, capture: Capture): CaptureWork {
  return { deployment: row.id, image: formatImageReference(capture), ...orderOf(capture) }
}

function orderOf({ disk, hints, partition_number, repair, finish }: Capture) {
  return {
    ...present({ disk, partition: partition_number }),
    hints: JSON.parse(hints) as DiskHint[],
    repair: repair === 1,
    finish,
  }
}

/** A stored proof; those of before there were layouts say nothing of places. */
function proofView(json: string): Proof {
  const { places = [], actions = [], ...proof } = JSON.parse(json) as Omit<Proof, 'places' | 'actions'> & Partial<Proof>
  return { ...proof, places, actions }
}

export function eventView(event: StoredEvent): EventView {
  return {
    id: event.id,
    at: dateTime(event.at),
    source: event.source,
    kind: event.kind,
    text: event.text,
    ...present({ host: event.host, deployment: event.deployment_id }),
  }
}
