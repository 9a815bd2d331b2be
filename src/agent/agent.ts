// The agent's one pass over a machine: look, register, choose the disk, transfer, read back, make it boot, hand over.
// It decides nothing about machines (the service does) and ends nothing (main/agentd.ts does): it returns what happened.
// docs/boot.md tells the same in its place in a deployment; paper, section II.B.
import { randomUUID } from 'node:crypto'
import type { Input, Output } from '../contract/operation.ts'
import type { serviceOperations } from '../contract/service.ts'
import type { Instructions, Proof, TransferCounts } from '../contract/types.ts'
import { Secret } from '../lib/secret.ts'
import type { DeploymentStep, FinalAction } from '../model/deployment.ts'
import { causeChain, Failure } from '../model/failure.ts'
import type { Manifest } from '../model/image.ts'
import type { AgentArguments } from './arguments.ts'
import { writeBootBlock } from './boot-block.ts'
import { putDiskFirst } from './boot-entry.ts'
import { chooseDisk, describe } from './choose-disk.ts'
import { openDisk } from './disk.ts'
import { openSource, smaller } from './engine.ts'
import type { FrameSource } from './frame-source.ts'
import { findEfiSystemPartition } from './gpt.ts'
import type { Look, SeenDisk } from './inventory.ts'
import type { Log } from './log.ts'
import { lanesFor, pieceBudgetFor } from './memory-plan.ts'
import { Origin, type OriginLimits } from './origin.ts'
import { Reporter, type ReportLimits, type ServiceClient, untilAnswered } from './report.ts'
import { addCounts, countsOfOrigin } from './source-counts.ts'
import { readBack } from './verify.ts'
import { type Buffers, createBuffers, type TransferProgress, transfer, wipe } from './write.ts'

/** How a pass ended. `stays`: the machine remains in the scout, and `why` says so for its console. */
export type Outcome =
  | { readonly kind: 'finished'; readonly action: FinalAction }
  | { readonly kind: 'stays'; readonly why: readonly string[] }

export type Agent = {
  readonly arguments: AgentArguments
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
  transfer: 'the disk does not boot, its first MiB is zero',
  verify: 'the disk does not boot, its first MiB is zero',
  'boot-block': 'the disk does not boot, its first MiB is zero',
  share: 'the disk holds the whole image, read back',
  finish: 'the disk holds the whole image, read back',
}

type Work = NonNullable<Instructions['work']>
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
  if (instructions.action === 'stop' || instructions.work === undefined) {
    return stays(`the service has nothing to do here: ${instructions.reason ?? 'it gave no reason'}`)
  }
  const service = agent.connect(sessionKey)
  const everyMs = instructions.reportEveryMs
  const reporter = new Reporter(service, deployment, { log, limits: agent.reportLimits, everyMs, beganMs })
  const working = AbortSignal.any([signal, reporter.signal])
  try {
    await deploy({ agent, service, deployment, reporter, sessionKey, look, work: instructions.work }, working)
    return { kind: 'finished', action: instructions.work.finish }
  } catch (error) {
    signal.throwIfAborted()
    const disk = diskAfter[reporter.step]
    // When the service ended the work, that is the reason, whatever it made fail first, and it needs no report.
    if (reporter.signal.aborted) return stays(`the work has ended; ${disk}`, reporter.signal.reason)
    if (error instanceof Failure && error.code === 'cancelled') return stays(`the work has ended; ${disk}`, error)
    await reportFailure({ agent, service, deployment, reporter }, error, signal)
    return stays(`failed in step ${reporter.step}; ${disk}`, error)
  } finally {
    await reporter.close()
  }
}

async function register(agent: Agent, look: Look, signal: AbortSignal): Promise<Registration> {
  const input: Input<(typeof serviceOperations)['registerHost']> = {
    host: agent.arguments.host,
    agent: randomUUID(),
    agentVersion: agent.version,
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

/** The steps in their order, each timed and reported. Throws the first one's Failure; the disk then does not boot. */
async function deploy(deployment: Deployment, signal: AbortSignal): Promise<void> {
  const { agent, reporter, look, work } = deployment
  const { log } = agent
  if (look.problem !== undefined) {
    throw new Failure('internal', "the machine's disks could not be listed", { cause: look.problem })
  }
  const { memoryBytes } = look.inventory
  const lanes = lanesFor(memoryBytes)
  // All that the origin sends crosses the border of the site, where there is one.
  const ingressBytesPerSecond = smaller(work.transfer.ingressBytesPerSecond, work.transfer.siteIngressBytesPerSecond)
  const origin = new Origin({ connections: lanes, limits: agent.originLimits, log, ingressBytesPerSecond })
  try {
    reporter.begin('disk')
    const manifest = await origin.fetchManifest(work.image.manifestUrl, work.image.digest, signal)
    const seen = chooseDisk(look.disks, work.diskHints, manifest)
    const buffers = createBuffers(lanes)
    await reporter.event('disk-chosen', `${describe(seen)} for ${work.image.reference}: wiping it`)
    signal.throwIfAborted()
    await wipe(seen, buffers.zeros, signal)
    const source = openSource({
      order: work.transfer,
      imageUrl: work.image.imageUrl,
      manifest,
      origin,
      seen,
      connections: lanes,
      budgetBytes: pieceBudgetFor(memoryBytes),
      listen: agent.peerAddress,
      sessionKey: deployment.sessionKey,
      client: `HaDeS ${agent.version}`,
      log,
      onFellBack: (text) => reporter.event('engine-fell-back', text),
    })
    try {
      await bring(deployment, { origin, source, manifest, seen, buffers }, signal)
    } finally {
      await source.close()
    }
  } finally {
    origin.close()
  }
}

type Target = {
  readonly origin: Origin
  readonly source: FrameSource
  readonly manifest: Manifest
  readonly seen: SeenDisk
  readonly buffers: Buffers
}

/** Brings the image onto the disk and proves it, passes it on while others gain from that, and hands the proof over. */
async function bring(deployment: Deployment, target: Target, signal: AbortSignal): Promise<void> {
  const { agent, reporter, work } = deployment
  const { log } = agent
  const { origin, source, manifest, seen, buffers } = target
  let newest: TransferProgress = { doneBytes: 0, writtenBytes: 0, durableBytes: 0, refetchedBytes: 0 }
  const count = () => countsOf(source, newest)
  const disk = await openDisk(seen.path, seen.sectorBytes)
  try {
    if (!disk.isDirect) log.line(`${disk.path} takes no direct I/O: what is read back may come from memory`)
    reporter.begin('transfer', manifest.sizeBytes)
    reporter.countBy(count)
    const onProgress = (progress: TransferProgress) => {
      newest = progress
      reporter.progress(progress.doneBytes)
    }
    const { imageUrl } = work.image
    const written = await transfer({ source, origin, imageUrl, manifest, disk, buffers, log, onProgress }, signal)
    reporter.begin('verify', manifest.sizeBytes)
    const onRead = (doneBytes: number) => reporter.progress(doneBytes)
    const readBytes = await readBack({ disk, manifest, buffers, onProgress: onRead }, signal)
    reporter.begin('boot-block')
    const { bytesReadBack, gpt } = await writeBootBlock({ seen, disk, manifest, buffers, log }, signal)
    if (gpt !== undefined) await reporter.event('gpt-moved', gpt)
    await share(deployment, source, signal)
    reporter.begin('finish')
    const bootEntry = await arrangeBoot(deployment, seen, buffers.head, signal)
    const counts = count()
    await complete(
      deployment,
      proofOf(deployment, seen, bootEntry, {
        ...written,
        bytesFetched: counts.receivedBytes + origin.documentBytes,
        bytesReadBack: readBytes + bytesReadBack,
        transfer: counts,
      }),
      signal,
    )
  } finally {
    await disk.close()
  }
}

/** What the source says, what the origin was asked for beside it, and what of it is on the disk. */
function countsOf(source: FrameSource, progress: TransferProgress): TransferCounts {
  const { engine, ...counts } = source.counts()
  const { writtenBytes, durableBytes, refetchedBytes } = progress
  const { sources, uploads, ...sum } = addCounts(counts, countsOfOrigin(refetchedBytes))
  return { engine, ...sum, writtenBytes, durableBytes, sources: [...sources], uploads: [...uploads] }
}

/**
 * Stays as a source while others still gain from it, then leaves the swarm. What goes wrong here is no failure: this
 * host's own disk is whole.
 */
async function share({ agent, reporter, work }: Deployment, source: FrameSource, signal: AbortSignal): Promise<void> {
  const maxMs = work.transfer.lingerSeconds * 1000
  if (maxMs === 0 || source.counts().engine === 'http') return
  reporter.begin('share')
  try {
    await source.linger({ maxMs, signal })
  } catch (error) {
    signal.throwIfAborted()
    agent.log.failure('this host no longer passes the image on', error)
  }
  // Before the proof is taken: with it the tracker forgets this agent's key.
  await source.close()
}

/** On UEFI the disk comes first in the boot order. What firmware does not let us do is told, and no failure. */
async function arrangeBoot(
  { look, reporter }: Deployment,
  seen: SeenDisk,
  head: Buffer,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (look.inventory.firmware !== 'uefi') return undefined
  const esp = findEfiSystemPartition(head, seen.sectorBytes)
  if (esp === undefined) {
    await reporter.event('boot-entry-failed', 'the image has no EFI system partition: the boot order stays as it is')
    return undefined
  }
  try {
    const bootEntry = await putDiskFirst(seen.path, esp, signal)
    await reporter.event('boot-entry', bootEntry)
    return bootEntry
  } catch (error) {
    signal.throwIfAborted()
    await reporter.event('boot-entry-failed', causeChain(error).join(': '))
    return undefined
  }
}

function proofOf(
  { reporter, work }: Deployment,
  seen: SeenDisk,
  bootEntry: string | undefined,
  bytes: Pick<Proof, 'bytesFetched' | 'bytesWritten' | 'bytesZeroed' | 'bytesReadBack' | 'transfer'>,
): Proof {
  return {
    imageDigest: work.image.digest,
    diskPath: seen.path,
    ...(seen.serial === undefined ? {} : { diskSerial: seen.serial }),
    ...(seen.wwn === undefined ? {} : { diskWwn: seen.wwn }),
    diskSizeBytes: seen.sizeBytes,
    ...bytes,
    ...(bootEntry === undefined ? {} : { bootEntry }),
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
