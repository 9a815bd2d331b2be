// The agent's one pass over a machine: look, register, choose the disk, transfer, read back, make it boot, hand over.
// It decides nothing about machines (the service does) and ends nothing (main/agentd.ts does): it returns what happened.
// docs/boot.md tells the same in its place in a deployment; paper, section II.B.
import { randomUUID } from 'node:crypto'
import type { Input, Output } from '../contract/operation.ts'
import type { serviceOperations } from '../contract/service.ts'
import type { Proof, ProofAction } from '../contract/types.ts'
import type { ImageOrder, Work } from '../contract/work-types.ts'
import { Secret } from '../lib/secret.ts'
import type { DeploymentStep, FinalAction } from '../model/deployment.ts'
import { causeChain, Failure, invariant } from '../model/failure.ts'
import type { Manifest } from '../model/image.ts'
import { checkSignature } from '../model/image-signature.ts'
import type { Layout } from '../model/layout.ts'
import type { HostArguments } from './arguments.ts'
import { writeBootBlock } from './boot-block.ts'
import { putDiskFirst } from './boot-entry.ts'
import { checkBootLoader, mountAndInstall } from './boot-loader.ts'
import { Brought, sumCounts } from './bring.ts'
import { captureDisk } from './capture.ts'
import { findTwin } from './device-tree.ts'
import { smaller } from './engine.ts'
import { eraseDisks } from './erase-disks.ts'
import { type EfiSystemPartition, findEfiSystemPartition, partitionUuids } from './gpt.ts'
import type { Look } from './inventory.ts'
import { together } from './lanes.ts'
import type { Log } from './log.ts'
import { lanesFor, pieceBudgetFor } from './memory-plan.ts'
import { Origin, type OriginLimits } from './origin.ts'
import { type Device, type Place, proofOfPlace, readLayout } from './place.ts'
import { kexecOrReboot } from './post-install/kexec.ts'
import { checkPostInstall, type PostInstallWork, postInstall } from './post-install/post-install.ts'
import { type Prepared, prepare } from './prepare.ts'
import { Reporter, type ReportLimits, type ServiceClient, untilAnswered } from './report.ts'
import { spillPlaces } from './spill-disk.ts'
import { type Buffers, createBuffers } from './write.ts'

/**
 * How a pass ended. `stays`: the machine remains in the scout, and `why` says so for its console. A capture that failed is
 * `finished` too: its machine has lost nothing, and goes back to what it was.
 */
export type Outcome =
  | { readonly kind: 'finished'; readonly action: FinalAction; readonly failed?: readonly string[] }
  | { readonly kind: 'stays'; readonly why: readonly string[] }

export type Agent = {
  readonly arguments: HostArguments
  readonly version: string
  /** A client of the Service Port that presents `token`. */
  readonly connect: (token: Secret) => ServiceClient
  /** Looks at the machine; see `lookAtMachine`. */
  readonly look: (signal: AbortSignal) => Promise<Look>
  readonly log: Log
  /** Where other hosts of a swarm reach this one. */
  readonly peerAddress: { readonly host: string; readonly port: number }
  readonly originLimits: OriginLimits
  readonly reportLimits: ReportLimits
}

/** What an end in this step leaves behind. */
const diskAfter: Readonly<Record<DeploymentStep, string>> = {
  inventory: 'no disk was touched',
  disk: 'at most the beginning and the end of the disk were wiped',
  erase: 'the disk is being erased and does not boot',
  layout: 'the disk has a new partition table, or part of one, and does not boot',
  compare: 'nothing was written where the disk is compared',
  transfer: 'the disk does not boot, its first MiB is zero',
  verify: 'the disk does not boot, its first MiB is zero',
  'boot-block': 'the disk does not boot, its first MiB is zero',
  'post-install': 'the disk holds the whole image, read back; what is done after it is incomplete',
  share: 'the disk holds the whole image, read back',
  hygiene: 'no disk was touched',
  repair: 'no disk was touched',
  capture: 'no disk was touched',
  publish: 'no disk was touched',
  finish: 'the disk holds the whole image, read back',
}

type Registration = Output<(typeof serviceOperations)['registerHost']>

/** Does one deployment from registration to the accepted proof. Throws only the reason of `signal`, or a bug. */
export async function runAgent(agent: Agent, signal: AbortSignal): Promise<Outcome> {
  const { log } = agent
  log.hide(agent.arguments.token)
  const beganMs = performance.now()
  log.line(`agent ${agent.version} of host ${agent.arguments.host}, service ${agent.arguments.service}`)
  const look = await agent.look(signal)
  let registration: Registration
  try {
    registration = await register(agent, look, signal)
  } catch (error) {
    signal.throwIfAborted()
    return stays('the service does not take this machine', error)
  }
  const sessionKey = new Secret(registration.sessionKey)
  log.hide(sessionKey)
  const { deployment, instructions } = registration
  const { work, capture, erase } = instructions
  const order = work ?? capture ?? erase
  if (instructions.action === 'stop' || order === undefined) {
    return stays(`the service has nothing to do here: ${instructions.reason ?? 'it gave no reason'}`)
  }
  const service = agent.connect(sessionKey)
  const everyMs = instructions.reportEveryMs
  const reporter = new Reporter(service, deployment, { log, limits: agent.reportLimits, everyMs, beganMs })
  const working = AbortSignal.any([signal, reporter.signal])
  try {
    if (capture) {
      const { arguments: given, reportLimits: limits } = agent
      const { service: url, pin: fingerprint } = given
      await captureDisk(
        { work: capture, look, service, url, trust: { fingerprint }, sessionKey, reporter, log, limits },
        working,
      )
      return { kind: 'finished', action: capture.finish }
    }
    if (erase) {
      await eraseDisks({ work: erase, look, service, reporter, log, limits: agent.reportLimits }, working)
      return { kind: 'finished', action: erase.finish }
    }
    invariant(work, 'instructions have one of the kinds of work')
    const action = await deploy({ agent, service, deployment, reporter, sessionKey, look, work }, working)
    return { kind: 'finished', action }
  } catch (error) {
    signal.throwIfAborted()
    const disk = diskAfter[reporter.step]
    const left = (what: string, why: unknown): Outcome => {
      const outcome = stays(what, why)
      return capture && outcome.kind === 'stays'
        ? { kind: 'finished', action: capture.finish, failed: outcome.why }
        : outcome
    }
    // When the service ended the work, that is the reason, whatever it made fail first, and it needs no report.
    if (reporter.signal.aborted) return left(`the work has ended; ${disk}`, reporter.signal.reason)
    if (error instanceof Failure && error.code === 'cancelled') return left(`the work has ended; ${disk}`, error)
    await reportFailure({ agent, service, deployment, reporter }, error, signal)
    return left(`failed in step ${reporter.step}; ${disk}`, error)
  } finally {
    await reporter.close()
  }
}

async function register(agent: Agent, look: Look, signal: AbortSignal): Promise<Registration> {
  const input: Input<(typeof serviceOperations)['registerHost']> = {
    host: agent.arguments.host,
    agent: randomUUID(),
    agentVersion: agent.version,
    ...(agent.arguments.stage2Sha256 === undefined ? {} : { scoutSha256: agent.arguments.stage2Sha256 }),
    inventory: look.inventory,
  }
  const client = agent.connect(agent.arguments.token)
  const options = { log: agent.log, limits: agent.reportLimits, signal }
  const call = async (signal: AbortSignal) => {
    try {
      return await client.registerHost(input, { signal })
    } catch (error) {
      // The deployment's row changed under this very call; the next answer is another one.
      if (error instanceof Failure && error.code === 'wrong-state') throw new Error('not now', { cause: error })
      throw error
    }
  }
  return untilAnswered('registerHost', call, options)
}

type Deployment = {
  readonly agent: Agent
  readonly service: ServiceClient
  readonly deployment: number
  readonly reporter: Reporter
  readonly sessionKey: Secret
  readonly look: Look
  readonly work: Work
}

/** The steps in their order, each timed and reported, and how the machine is to end. Throws the first one's Failure. */
async function deploy(deployment: Deployment, signal: AbortSignal): Promise<FinalAction> {
  const { agent, reporter, look, work } = deployment
  const { log } = agent
  if (look.problem !== undefined) {
    throw new Failure('internal', "the machine's disks could not be listed", { cause: look.problem })
  }
  const lanes = lanesFor(look.inventory.memoryBytes)
  const [{ transfer: order }] = work.images as [ImageOrder]
  // All that the origin sends crosses the border of the site, where there is one.
  const ingressBytesPerSecond = smaller(order.ingressBytesPerSecond, order.siteIngressBytesPerSecond)
  const origin = new Origin({ connections: lanes, limits: agent.originLimits, log, ingressBytesPerSecond })
  const brought: Brought[] = []
  const erased: ProofAction[] = []
  try {
    reporter.begin('disk')
    const manifests = new Map<string, Manifest>()
    for (const { reference, manifestUrl, digest, signature } of work.images) {
      const { key } = agent.arguments
      // The key came with the boot script, not with the order: whoever can forge only one of them writes nothing.
      if (key !== undefined) checkSignature({ reference, digest, signature, publicKey: key })
      manifests.set(reference, await origin.fetchManifest(manifestUrl, digest, signal))
    }
    const buffers = createBuffers(lanes)
    const { zeros } = buffers
    const tell = (kind: string, text: string) => reporter.event(kind, text)
    const onErase = {
      begin: (sizeBytes: number) => reporter.begin('erase', sizeBytes),
      progress: (doneBytes: number) => reporter.progress(doneBytes),
      erased: (disk: string, { text, seconds }: { readonly text: string; readonly seconds: number }) =>
        void erased.push({ name: `erase ${disk}`, outcome: 'done', text, seconds }),
    }
    const onLayout = () => reporter.begin('layout')
    const layout = readLayout(work.layout)
    const after = postInstallWork(deployment)
    if (after !== undefined) checkPostInstall(after, layout, () => undefined)
    if (work.postInstall?.installBootLoader) checkBootLoader(layout, work.postInstall.root, look.inventory.firmware)
    const { approvedDisks: approved, redeploy } = work
    const preparation = { look, layout, approved, manifests, zeros, tell, onLayout, redeploy, onErase }
    const prepared = await prepare(preparation, signal)
    reporter.countBy(() => sumCounts(brought))
    await together(signal, [
      (signal) => bringAll(deployment, { origin, lanes, buffers, manifests, prepared, brought }, signal),
      () => prepared.fileSystems.all(),
    ])
    const places = prepared.fileSystems.places()
    refuseTwins(brought, prepared)
    await makeBootable(deployment, brought, signal)
    const { actions, sharing } = await finishSystem(deployment, { layout, prepared, brought, after, tell }, signal)
    await share(deployment, sharing, signal)
    reporter.begin('finish')
    const bootEntry = await bootEntryOf(deployment, { brought, prepared }, signal)
    const proof = proofOf(deployment, {
      places,
      brought,
      documentBytes: origin.documentBytes,
      bootEntry,
      actions: [...erased, ...actions],
    })
    const by = { root: work.postInstall?.root, tell, log }
    const action = work.finish === 'kexec' ? await kexecOrReboot(places, by, signal) : work.finish
    await complete(deployment, proof, signal)
    return action
  } finally {
    for (const one of brought) await one.close()
    origin.close()
  }
}

type Images = {
  readonly origin: Origin
  readonly lanes: number
  readonly buffers: Buffers
  readonly manifests: ReadonlyMap<string, Manifest>
  readonly prepared: Prepared
  /** Grows as images begin to come; whoever closes does so whatever happens. */
  readonly brought: Brought[]
}

/** Brings each image to its place, one after the other, and reads it back. */
async function bringAll(deployment: Deployment, images: Images, signal: AbortSignal): Promise<void> {
  const { agent, reporter, look, work } = deployment
  const { places, unused, fileSystems } = images.prepared
  const targets = places.flatMap((place) => {
    const image = 'image' in place.content ? place.content.image : undefined
    const order = image !== undefined && work.images.find(({ reference }) => reference === image)
    const manifest = order && images.manifests.get(order.reference)
    return order && manifest ? [{ place, order, manifest }] : []
  })
  const totalBytes = targets.reduce((sum, { manifest }) => sum + manifest.sizeBytes, 0)
  const budgetBytes = Math.floor(pieceBudgetFor(look.inventory.memoryBytes) / Math.max(1, targets.length))
  const wanted = targets.map(({ place, manifest }) => ({ place, imageBytes: manifest.sizeBytes }))
  const spillTo = spillPlaces(wanted, unused)
  let doneBytes = 0
  for (const [index, target] of targets.entries()) {
    // The same image at a second place: its peer steps back for the one that fetches now.
    for (const one of images.brought) if (one.work.order === target.order) await one.source.close()
    const { host, port } = agent.peerAddress
    const one = new Brought({
      ...target,
      ...images,
      spillTo: spillTo.get(target.place.name),
      fileSystems,
      budgetBytes,
      listen: { host, port: port === 0 ? 0 : port + index },
      sessionKey: deployment.sessionKey,
      client: `HaDeS ${agent.version}`,
      log: agent.log,
      reporter,
      redeploy: target.place.holds === 'nothing' ? 'full' : work.redeploy,
      networkBytesPerSecond: networkRateOf(look, target.order.transfer),
      before: { doneBytes, totalBytes },
    })
    images.brought.push(one)
    await one.bring(signal)
    doneBytes += target.manifest.sizeBytes
  }
}

/** What the network can bring at most, as far as that is known: the fastest link, the caps. */
function networkRateOf({ inventory }: Look, order: ImageOrder['transfer']): number | undefined {
  const links = inventory.interfaces.flatMap(({ carrier, speedMbit }) =>
    carrier && speedMbit ? [speedMbit * 125_000] : [],
  )
  const link = links.length === 0 ? undefined : Math.max(...links)
  return smaller(smaller(order.ingressBytesPerSecond, order.siteIngressBytesPerSecond), link)
}

/** Everything is proven: now the first MiB of each image, and what makes the firmware start the disk. */
async function makeBootable(deployment: Deployment, brought: readonly Brought[], signal: AbortSignal): Promise<void> {
  const { agent, reporter } = deployment
  reporter.begin('boot-block')
  for (const one of brought.filter(({ isWithheld }) => isWithheld)) {
    const { place, manifest } = one.work
    const work = { seen: place.device, disk: one.disk, manifest, buffers: one.buffers, log: agent.log }
    const { bytesReadBack, gpt } = await writeBootBlock(work, signal)
    one.bytes = { ...one.bytes, bytesReadBack: one.bytes.bytesReadBack + bytesReadBack }
    if (gpt !== undefined) await reporter.event('gpt-moved', gpt)
  }
}

type Finishing = {
  readonly layout: Layout
  readonly prepared: Prepared
  readonly brought: readonly Brought[]
  readonly after: PostInstallWork | undefined
  readonly tell: (kind: string, text: string) => Promise<unknown>
}

/** What makes the copy a system of its own, when the setup asks for it; and the sources that others may still take from. */
async function finishSystem(
  deployment: Deployment,
  { layout, prepared, brought, after, tell }: Finishing,
  signal: AbortSignal,
): Promise<{ actions: ProofAction[]; sharing: readonly Brought[] }> {
  if (after === undefined) return { actions: [], sharing: brought }
  deployment.reporter.begin('post-install')
  const loader = await installLoader(deployment, { layout, prepared }, signal)
  const sharing = after.order.growLast ? await leaveSpillAreas(deployment, brought) : brought
  const actions = await postInstall(after, prepared.fileSystems.places(), tell, signal)
  return { actions: [...loader, ...actions], sharing }
}

/** A system that looks for its disks by name must find one: nothing else of this machine may have the image's names. */
function refuseTwins(brought: readonly Brought[], { otherDisks }: Prepared): void {
  for (const { work, head } of brought) {
    const names = partitionUuids(head, work.place.device.sectorBytes)
    const fixed = names.map((name) => ({ place: work.place.name, kind: 'partitionUuid' as const, name }))
    const twin = findTwin(fixed, otherDisks)
    if (twin === undefined) continue
    const words = `${twin.path} has the same partition UUID (${twin.fixed.name}) as a partition of ${work.order.reference}`
    throw new Failure('disk-ambiguous', `${words}: the new system could take one for the other; erase that disk first`)
  }
}

/** For a system that brought none. */
async function installLoader(
  { reporter, look, work }: Deployment,
  { layout, prepared }: Pick<Finishing, 'layout' | 'prepared'>,
  signal: AbortSignal,
): Promise<ProofAction[]> {
  if (work.postInstall?.installBootLoader !== true) return []
  const beganMs = performance.now()
  const places = prepared.fileSystems.places()
  const { firmware } = look.inventory
  const done = await mountAndInstall(
    { layout, places, root: work.postInstall.root, firmware, esp: prepared.esp?.path },
    signal,
  )
  await reporter.event('boot-loader', done)
  const seconds = (performance.now() - beganMs) / 1000
  return [{ name: 'boot-loader', outcome: 'done', text: done, seconds }]
}

function postInstallWork({ agent, deployment, look, work }: Deployment): PostInstallWork | undefined {
  if (work.postInstall === undefined) return undefined
  return {
    order: work.postInstall,
    host: work.host,
    deployment,
    interfaces: work.interfaces,
    seenInterfaces: look.inventory.interfaces,
    bootMac: agent.arguments.mac,
  }
}

/** What grows may cover what lies on the disk for the other hosts: those sources end. Returns the others. */
async function leaveSpillAreas({ reporter }: Deployment, brought: readonly Brought[]): Promise<readonly Brought[]> {
  const left = brought.filter(({ source }) => source.counts().spilledBytes > 0)
  for (const { source, work } of left) {
    await source.close()
    await reporter.event(
      'share-ended',
      `${work.place.name} grows over what it kept for other hosts: it is no source now`,
    )
  }
  return brought.filter((one) => !left.includes(one))
}

/**
 * Stays as a source while others still gain from it, then leaves the swarms. What goes wrong here is no failure: this
 * host's own disk is whole.
 */
async function share(
  { agent, reporter, work }: Deployment,
  brought: readonly Brought[],
  signal: AbortSignal,
): Promise<void> {
  const maxMs = Math.max(...work.images.map(({ transfer }) => transfer.lingerSeconds)) * 1000
  const sources = brought.map(({ source }) => source).filter((source) => source.counts().engine !== 'http')
  if (maxMs === 0 || sources.length === 0) return
  reporter.begin('share')
  try {
    await Promise.all(sources.map((source) => source.linger({ maxMs, signal })))
  } catch (error) {
    signal.throwIfAborted()
    agent.log.failure('this host no longer passes the image on', error)
  }
  // Before the proof is taken: with it the tracker forgets this agent's key.
  for (const source of sources) await source.close()
}

type Started = { readonly brought: readonly Brought[]; readonly prepared: Prepared }

/** Of the first disk that holds an image whole, else of the EFI system partition among those of the setup. */
async function bootEntryOf(deployment: Deployment, { brought, prepared }: Started, signal: AbortSignal) {
  const whole = brought.find(({ work }) => work.place.disk !== undefined && work.place.partition === undefined)
  if (whole === undefined) {
    const { disk, esp } = prepared.esp ?? {}
    return disk && (await arrangeBoot(deployment, disk, esp, signal))
  }
  const { device } = whole.work.place
  return await arrangeBoot(deployment, device, findEfiSystemPartition(whole.head, device.sectorBytes), signal)
}

/** On UEFI the disk comes first in the boot order. What firmware does not let us do is told, and no failure. */
async function arrangeBoot(
  { look, reporter }: Deployment,
  disk: Device,
  esp: EfiSystemPartition | undefined,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (look.inventory.firmware !== 'uefi') return undefined
  if (esp === undefined) {
    await reporter.event('boot-entry-failed', 'the image has no EFI system partition: the boot order stays as it is')
    return undefined
  }
  try {
    const bootEntry = await putDiskFirst(disk.path, esp, signal)
    await reporter.event('boot-entry', bootEntry)
    return bootEntry
  } catch (error) {
    signal.throwIfAborted()
    await reporter.event('boot-entry-failed', causeChain(error).join(': '))
    return undefined
  }
}

type Result = {
  readonly places: readonly Place[]
  readonly brought: readonly Brought[]
  readonly documentBytes: number
  readonly bootEntry: string | undefined
  readonly actions: ProofAction[]
}

function proofOf({ reporter, work }: Deployment, result: Result): Proof {
  const { places, brought, documentBytes, bootEntry, actions } = result
  const [first] = work.images
  const disk = places.find((place) => place.disk !== undefined)?.disk
  if (first === undefined || disk === undefined) throw new Error('a deployment without an image or a disk')
  const counts = sumCounts(brought)
  const sum = (of: (bytes: Brought['bytes']) => number) => brought.reduce((total, { bytes }) => total + of(bytes), 0)
  const digestOf = (image: string) => work.images.find(({ reference }) => reference === image)?.digest
  return {
    imageDigest: first.digest,
    diskPath: disk.path,
    ...(disk.serial === undefined ? {} : { diskSerial: disk.serial }),
    ...(disk.wwn === undefined ? {} : { diskWwn: disk.wwn }),
    diskSizeBytes: disk.sizeBytes,
    bytesFetched: counts.receivedBytes + documentBytes,
    bytesWritten: sum(({ bytesWritten }) => bytesWritten),
    bytesZeroed: sum(({ bytesZeroed }) => bytesZeroed),
    bytesKept: sum(({ bytesKept }) => bytesKept),
    bytesReadBack: sum(({ bytesReadBack }) => bytesReadBack),
    transfer: counts,
    ...(bootEntry === undefined ? {} : { bootEntry }),
    places: places.map((place) => proofOfPlace(place, digestOf)),
    actions,
    steps: reporter.stepTimes(),
  }
}

/** Hands the proof over; the machine may only be ended when the service has taken it and set what boots next. */
async function complete(
  { agent, service, deployment, reporter }: Deployment,
  proof: Proof,
  signal: AbortSignal,
): Promise<void> {
  // No progress may be told beside this: once the proof is taken, the answer to it would be to stop.
  await reporter.close()
  signal.throwIfAborted()
  const options = { log: agent.log, limits: agent.reportLimits, signal }
  const call = (signal: AbortSignal) => service.completeDeployment({ deployment, proof }, { signal })
  const answer = await untilAnswered('completeDeployment', call, options)
  if (answer.action === 'stop') {
    throw new Failure('cancelled', `the proof was taken, the machine stays: ${answer.reason ?? 'no reason given'}`)
  }
}

/** Reports until the service has heard it: a failure that nobody hears looks like an agent that vanished. */
async function reportFailure(
  { agent, service, deployment, reporter }: Omit<Deployment, 'sessionKey' | 'look' | 'work'>,
  error: unknown,
  signal: AbortSignal,
): Promise<void> {
  const { log } = agent
  const { step } = reporter
  log.failure(`failed in step ${step}`, error)
  const input = {
    deployment,
    step,
    code: error instanceof Failure ? error.code : ('internal' as const),
    message: causeChain(error).map((sentence) => sentence.slice(0, 4000)),
    log: log.tail(),
  }
  const options = { log, limits: agent.reportLimits, signal }
  await untilAnswered('reportFailure', (signal) => service.reportFailure(input, { signal }), options).catch(
    (refusal: unknown) => {
      signal.throwIfAborted()
      log.failure('the service does not take the failure report', refusal)
    },
  )
}

function stays(what: string, error?: unknown): Outcome {
  return { kind: 'stays', why: [what, ...(error === undefined ? [] : causeChain(error))] }
}
