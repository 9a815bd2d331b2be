// The Service Port's handlers: an agent proves that it is the one that was expected, asks, and reports. Reports that come
// late, twice or out of order change nothing; the answer then tells the agent to stop.
import { failureMeanings } from '../contract/failures.ts'
import type { Caller, Handlers } from '../contract/operation.ts'
import type { serviceOperations } from '../contract/service.ts'
import type { Disk, FailureReport, Inventory, Proof } from '../contract/types.ts'
import type { Instructions, Work } from '../contract/work-types.ts'
import { approveDisk, approvedDisksOf } from '../db/approved-disks.ts'
import { beginAttempt, hasAttemptLeft } from '../db/attempts.ts'
import { releaseBootRecord } from '../db/boot.ts'
import { courseOf, findCapture } from '../db/captures.ts'
import {
  activeDeployments,
  findDeployment,
  findRollout,
  imagesOfRollout,
  keepLog,
  moveDeployment,
  type NamedDeployment,
  recordProgress,
} from '../db/deployments.ts'
import { findErasure } from '../db/erasures.ts'
import { about, addEvent } from '../db/events.ts'
import { hostIdOf, interfacesOf, inventoriesOf, putInventory } from '../db/hosts.ts'
import { signatureOf } from '../db/images.ts'
import type { Db } from '../db/open.ts'
import { scriptsOfRollout } from '../db/scripts.ts'
import { setupById } from '../db/setups.ts'
import { tellLimit } from '../lib/tell-limit.ts'
import { isTooOld, oldestAgent } from '../model/agent-version.ts'
import { type ApprovedDisk, isApproved } from '../model/approved-disk.ts'
import { chooseDisks } from '../model/choose-disk.ts'
import { type DeploymentStep, stateRules } from '../model/deployment.ts'
import { Failure, invariant } from '../model/failure.ts'
import { formatImageReference } from '../model/image.ts'
import type { Layout } from '../model/layout.ts'
import { lengthen } from '../model/pace.ts'
import type { PostInstall } from '../model/post-install.ts'
import { parseSetup } from '../model/setup.ts'
import { attemptToken, newNonce, sessionKey } from '../model/token.ts'
import { admit, armed, bearer, stop } from './agent-session.ts'
import { captureIntake } from './capture-intake.ts'
import { reportIntake } from './discovery.ts'
import { eraseIntake, eraseWork } from './erasures.ts'
import { fillPostInstall, type TemplateHost } from './post-install.ts'
import { type TransferOrders, transferOrders } from './transfer-order.ts'
import { trackOf } from './transfers.ts'
import { captureWork, failureReport, layoutView, present } from './views.ts'
import type { World } from './world.ts'

/** How often an agent reports: often enough to look live, seldom enough for ten thousand of them. */
const reportEveryMs = 1000

export function serviceHandlers(world: World): Handlers<typeof serviceOperations> {
  const { db, now } = world
  const orders = transferOrders(world)
  const event = async (row: NamedDeployment, kind: string, text: string): Promise<void> => {
    await addEvent(db, { source: 'agent', kind, text, ...about(row) }, now())
  }
  return {
    ...captureIntake(world).handlers,
    ...eraseIntake(world),
    ...reportIntake(world),

    async registerHost(input, caller) {
      const { row, sessionKey } = await registerHost(world, input, caller).catch(async (error: unknown) => {
        await tellRefusal(world, { host: input.host, address: caller.address, error })
        throw error
      })
      await tellClock(world, row, input.inventory)
      const { instructions, remark } = await instructionsOrEnd(world, row, orders)
      if (remark !== undefined) await event(row, 'engine-changed', remark)
      return { deployment: row.id, sessionKey, instructions }
    },

    async getInstructions({ deployment }, caller) {
      const row = await admit(world, deployment, caller)
      const { instructions } = await instructionsFor(world, row, orders)
      return { instructions }
    },

    async reportProgress({ deployment, step, transfer, sequence, ...progress }, caller) {
      const row = await admit(world, deployment, caller)
      const isLate = sequence !== undefined && sequence <= (row.report_sequence ?? -1)
      if (row.state === 'deploying' && row.step !== step && !isLate) await event(row, 'step', `began ${step}`)
      // Of the other steps there is no rate to keep: the track ends with the transfer.
      const sample = { at: now(), bytes: transfer?.writtenBytes ?? progress.doneBytes }
      const track = step === 'transfer' ? JSON.stringify(lengthen(trackOf(row), sample)) : undefined
      const counts = transfer && JSON.stringify(transfer)
      const report = { step, sequence, ...progress, transfer: counts, track }
      if (await recordProgress(db, row, report, now())) return { action: 'continue' }
      // Either the work has ended, or this report was overtaken by a later one, which says all that it says.
      const after = await admit(world, deployment, caller)
      return after.state === 'deploying' ? { action: 'continue' } : stop(after)
    },

    async reportEvent({ deployment, kind, text }, caller) {
      const row = await admit(world, deployment, caller)
      await event(row, kind, text)
      return row.state === 'deploying' || row.state === 'rebooting' ? { action: 'continue' } : stop(row)
    },

    async reportFailure({ deployment, step, code, message, log }, caller) {
      const row = await admit(world, deployment, caller)
      // What comes late, or twice, is of work that has ended.
      if (row.state !== 'deploying') return {}
      const failure = { source: 'agent', step, code, message, log } as const
      if (!(await tryAgain(world, { ...row, step }, failure))) await fail(world, row, failure)
      return {}
    },

    async completeDeployment({ deployment, proof }, caller) {
      const row = await admit(world, deployment, caller)
      // The agent asks again when our answer was lost: what it asks for has happened then.
      if (row.state === 'rebooting' || row.state === 'done') return { action: 'continue' }
      if (row.state !== 'deploying') return stop(row)
      if (row.kind !== 'deploy') throw new Failure('wrong-state', `deployment ${row.id} writes no disk`)
      const moved = await handOver(world, row, proof)
      return moved ? { action: 'continue' } : stop(await findDeployment(db, deployment))
    },
  }
}

/**
 * The disks that were written may be written again: those that the layout chooses among what the agent has seen, by the
 * same rule as the agent. Where that does not lead to the disk of the proof, only that one.
 */
async function approveProven(
  tx: Db,
  { host_id }: NamedDeployment,
  { layout, proof }: { readonly layout: Layout; readonly proof: Proof },
  now: number,
): Promise<void> {
  const seen = (await inventoriesOf(tx, [host_id])).get(host_id)
  const approved = (await approvedDisksOf(tx, [host_id])).get(host_id) ?? []
  // registerHost has stored it, checked by the contract.
  const disks = seen === undefined ? [] : (JSON.parse(seen.json) as Inventory).disks
  for (const disk of provenDisks(disks, layout, proof)) {
    if (!isApproved(disk.name, disk, approved)) await approveDisk(tx, host_id, disk, now)
  }
}

function provenDisks(disks: readonly Disk[], layout: Layout, proof: Proof): ApprovedDisk[] {
  try {
    const chosen = [...chooseDisks(disks, layout.disks)]
    if (chosen.some(([, disk]) => disk.path === proof.diskPath))
      return chosen.map(([name, disk]) => ({ ...disk, name }))
  } catch (error) {
    if (!(error instanceof Failure)) throw error
  }
  const [first] = layout.disks
  const identity = { sizeBytes: proof.diskSizeBytes, serial: proof.diskSerial, wwn: proof.diskWwn }
  return first === undefined ? [] : [{ name: first.name, ...identity }]
}

/** The boot record is back when this returns. False when the deployment has ended meanwhile. */
async function handOver({ db, now }: World, row: NamedDeployment, proof: Proof): Promise<boolean> {
  const setup = parseSetup((await setupById(db, row.setup_id)).xml)
  return await db.transaction().execute(async (tx) => {
    const change = {
      proof: JSON.stringify(proof),
      ...(proof.transfer ? { transfer: JSON.stringify(proof.transfer) } : {}),
      step: null,
      bytes_per_second: 0,
      waiting_for: 'the new system to show itself',
    }
    if (!(await moveDeployment(tx, row, 'rebooting', change, { by: 'agent', at: now() }))) return false
    await releaseBootRecord(tx, row.host_id, row.id, setup.finish.target, now())
    await approveProven(tx, row, { layout: setup.layout, proof }, now())
    const text = `the disk is proven: ${proof.bytesReadBack} bytes read back; boots ${setup.finish.target} from now on`
    await addEvent(tx, { source: 'agent', kind: 'completed', text, ...about(row) }, now())
    return true
  })
}

async function registerHost(
  world: World,
  input: Parameters<Handlers<typeof serviceOperations>['registerHost']>[0],
  caller: Caller,
) {
  const { db, keyring, now } = world
  const admitted = await db.transaction().execute(async (tx) => {
    const hostId = await hostIdOf(tx, input.host)
    const deployment = hostId === undefined ? undefined : (await activeDeployments(tx, [hostId])).get(hostId)
    // One answer to whoever has no good token: no stranger learns which hosts there are, or what is under way.
    bearer(caller, deployment && attemptToken(keyring, armed(deployment)), 'boot token')
    invariant(deployment, 'only a deployment has a token')
    if (isTooOld(input.agentVersion)) return { tooOld: deployment, row: deployment }
    if (deployment.agent === input.agent) return { row: deployment, tooOld: undefined }
    if (deployment.agent !== null) {
      throw new Failure('token-refused', `the boot token of ${input.host} was used by another agent`)
    }
    const change = {
      agent: input.agent,
      agent_version: input.agentVersion,
      scout_sha256: input.scoutSha256 ?? null,
      heard_at: now(),
      step: 'inventory' as const,
      step_since: now(),
      waiting_for: stateRules.deploying.waitsFor,
    }
    if (!(await moveDeployment(tx, deployment, 'deploying', change, { by: 'agent', at: now() }))) {
      throw new Failure('wrong-state', `the deployment of ${input.host} has just changed: ask again`)
    }
    await putInventory(tx, deployment.host_id, JSON.stringify(input.inventory), now())
    const { cpuCount, memoryBytes, disks, firmware } = input.inventory
    const text = `the agent registered from ${caller.address}: ${firmware}, ${cpuCount} CPU, ${Math.round(memoryBytes / 2 ** 20)} MiB, ${disks.length} disks`
    await addEvent(tx, { source: 'agent', kind: 'registered', text, ...about(deployment) }, now())
    return { row: await findDeployment(tx, deployment.id), tooOld: undefined }
  })
  if (admitted.tooOld) return await refuseOldAgent(world, admitted.tooOld, input.agentVersion)
  const { row } = admitted
  const key = sessionKey(keyring, armed(row))
  invariant(key, 'a registered deployment has a nonce and an agent')
  return { row, sessionKey: key.reveal() }
}

/** An agent that speaks another contract could not end what it begins: the deployment ends, and both are told why. */
async function refuseOldAgent(world: World, row: NamedDeployment, version: string): Promise<never> {
  const words = `the scout has an agent of version ${version}, and this service takes ${oldestAgent} and later`
  const failure = { code: 'agent-too-old', message: [words] } as const
  await fail(world, row, { source: 'service', step: 'inventory', ...failure, message: [words] })
  throw new Failure(failure.code, words, { at: 'agentVersion' })
}

/** A machine that boots with an old token asks until it is switched off: enough is told to see it. */
const mayTellRefusal = tellLimit({ burst: 20, perSecond: 0.2 })

/** A refused agent is part of its host's story: a machine that booted twice, or two with one MAC address. */
async function tellRefusal(
  { db, now }: World,
  { host, address, error }: { readonly host: string; readonly address: string; readonly error: unknown },
): Promise<void> {
  if (!(error instanceof Failure) || error.code !== 'token-refused' || mayTellRefusal() === undefined) return
  const hostId = await hostIdOf(db, host)
  if (hostId === undefined) return
  const deployment = (await activeDeployments(db, [hostId])).get(hostId)
  const why = deployment ? error.message : `no deployment of ${host} is under way`
  const text = `an agent at ${address} was refused: ${why}`
  const event = { source: 'service', kind: 'token-refused', text, hostId, deploymentId: deployment?.id }
  await addEvent(db, event, now())
}

/** A clock that keeps local time, as Windows wants it, is up to 14 h off and not wrong; a dead battery makes years. */
const clockOffMsMin = 15 * 3_600_000

async function tellClock({ db, now }: World, row: NamedDeployment, { clockAt }: Inventory): Promise<void> {
  const offMs = clockAt === undefined ? 0 : Date.parse(clockAt) - now()
  if (Math.abs(offMs) < clockOffMsMin) return
  const hours = Math.round(Math.abs(offMs) / 360_000) / 10
  const text = `the clock of the machine says ${clockAt}: ${hours} h ${offMs < 0 ? 'behind' : 'ahead of'} the service's`
  await addEvent(db, { source: 'agent', kind: 'clock-off', text, ...about(row) }, now())
}

type Ending = { readonly source: 'agent' | 'service'; readonly step: DeploymentStep; readonly log?: string }

/**
 * Gives the machine another attempt when what its agent could not do may succeed then, and one is left. The agent's key dies
 * with the attempt; the machine is switched. False when there is none, and the deployment is to fail.
 */
async function tryAgain(
  { db, now, keyring }: World,
  row: NamedDeployment,
  { step, code, message, log }: FailureReport & Ending,
): Promise<boolean> {
  if (!failureMeanings[code].retry) return false
  if (!hasAttemptLeft(row, (await courseOf(db, row)).deadlines)) return false
  const why = `${step} failed: ${message.join(': ')}`
  return await db.transaction().execute(async (tx) => {
    const isBegun = await beginAttempt(tx, row, { to: 'powering', why, by: 'agent', nonce: newNonce(keyring) }, now())
    if (isBegun && log !== undefined) await keepLog(tx, row.id, log)
    return isBegun
  })
}

/** Ends a deployment that cannot go on, if it is still as it was read. */
async function fail(
  { db, now }: World,
  row: NamedDeployment,
  { source, step, code, message, log }: FailureReport & Ending,
): Promise<void> {
  const failure = JSON.stringify({ code, message })
  await db.transaction().execute(async (tx) => {
    const change = { failure, failed_step: step, ...(log === undefined ? {} : { log }) }
    if (!(await moveDeployment(tx, row, 'failed', change, { by: 'agent', at: now() }))) return
    await releaseBootRecord(tx, row.host_id, row.id, undefined, now())
    const text = `${step} failed: ${message.join(': ')}`
    await addEvent(tx, { source, kind: 'failed', text, ...about(row) }, now())
  })
}

/** A host that was changed since the plan may lack what the setup needs: then the deployment ends, and the agent is told. */
async function instructionsOrEnd(world: World, row: NamedDeployment, orders: TransferOrders) {
  try {
    return await instructionsFor(world, row, orders)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    await fail(world, row, { source: 'service', step: 'inventory', ...failureReport(error) })
    return { instructions: { ...stop(await findDeployment(world.db, row.id)), reportEveryMs }, remark: undefined }
  }
}

async function postInstallFor(
  { db, bootBase }: World,
  postInstall: PostInstall,
  {
    row,
    interfaces,
    images,
  }: {
    readonly row: NamedDeployment
    readonly interfaces: TemplateHost['interfaces']
    readonly images: Work['images']
  },
): Promise<NonNullable<Work['postInstall']>> {
  const { host, site, rack, id: deployment } = row
  const image = images[0]?.reference ?? ''
  const scripts = await scriptsOfRollout(db, row.rollout_id)
  return fillPostInstall(postInstall, scripts, { host, site, rack, interfaces, deployment, image, service: bootBase })
}

async function instructionsFor(
  world: World,
  row: NamedDeployment,
  orders: TransferOrders,
): Promise<{ instructions: Instructions; remark?: string | undefined }> {
  const { db, bootBase } = world
  if (row.state !== 'deploying') return { instructions: { ...stop(row), reportEveryMs } }
  if (row.kind === 'capture') {
    const capture = captureWork(row, await findCapture(db, row.id))
    return { instructions: { action: 'capture', reportEveryMs, capture } }
  }
  if (row.kind === 'erase') {
    const erase = eraseWork(await findErasure(db, row.id))
    return { instructions: { action: 'erase', reportEveryMs, erase } }
  }
  const setup = parseSetup((await setupById(db, row.setup_id)).xml)
  const images: Work['images'] = []
  const remarks: string[] = []
  for (const image of await imagesOfRollout(db, row.rollout_id)) {
    const { order, remark } = await orders(row, image.digest)
    const imageBase = `${bootBase}/images/${image.digest}`
    images.push({
      reference: formatImageReference(image),
      digest: image.digest,
      ...present({ signature: await signatureOf(db, image.digest) }),
      manifestUrl: `${imageBase}/manifest.json`,
      imageUrl: `${imageBase}/image.zst`,
      transfer: order,
    })
    if (remark !== undefined) remarks.push(remark)
  }
  const interfaces = (await interfacesOf(db, [row.host_id])).get(row.host_id) ?? []
  const postInstall = setup.postInstall && (await postInstallFor(world, setup.postInstall, { row, interfaces, images }))
  const { accept_new_disk } = await findRollout(db, row.rollout_id)
  const approved = accept_new_disk === 1 ? undefined : (await approvedDisksOf(db, [row.host_id])).get(row.host_id)
  const work = {
    deployment: row.id,
    host: row.host,
    interfaces: interfaces.map(({ mac, ip }) => ({ mac, ...present({ ip }) })),
    layout: layoutView(setup.layout),
    images,
    redeploy: (await findRollout(db, row.rollout_id)).redeploy ?? setup.redeploy,
    ...present({ postInstall, approvedDisks: approved?.map((disk) => present(disk)) }),
    finish: setup.finish.action,
  }
  const remark = remarks.length === 0 ? undefined : remarks.join('; ')
  return { instructions: { action: 'deploy', reportEveryMs, work }, remark }
}
