// The Control Port's handlers of captures: a capture is a deployment of one host, so that the engine, the tokens, the events
// and the boot record do for it what they do for every other.
import type { controlOperations } from '../contract/control.ts'
import type { Handlers, Input } from '../contract/operation.ts'
import { addCapture, capturesUnderWay, captureUnderWay, findCapture, pageOfCaptures } from '../db/captures.ts'
import { activeDeployments, findDeployment } from '../db/deployments.ts'
import { addEvent } from '../db/events.ts'
import { findHosts, interfacesOf, powerMethodsOf } from '../db/hosts.ts'
import { lookUpImage } from '../db/images.ts'
import { recordAnswer } from '../db/once.ts'
import type { Db } from '../db/open.ts'
import { armBootRecord } from '../db/rollouts.ts'
import { runningTask } from '../db/tasks.ts'
import { capturedDisks, removeCaptured } from '../image/captured-disk.ts'
import { checkSpace } from '../image/library-file.ts'
import { captureMs } from '../model/capture.ts'
import { Failure, invariant } from '../model/failure.ts'
import { formatImageReference, type ImageReference, parseImageReference } from '../model/image.ts'
import { cancelDeployments } from './cancel.ts'
import { roomIn } from './images.ts'
import { hostIdsOf } from './nodeset.ts'
import { onceOf } from './once.ts'
import { nextOf, pageOf } from './paging.ts'
import { captureView } from './views.ts'
import type { World } from './world.ts'

type Order = Input<typeof controlOperations.startCapture>

export function captureHandlers(
  world: World,
): Pick<Handlers<typeof controlOperations>, 'startCapture' | 'getCapture' | 'listCaptures' | 'cancelCapture'> {
  const { db, library, now } = world
  const viewOf = async (deployment: number, tx: Db = db) => {
    const capture = await findCapture(tx, deployment)
    return captureView(capture, await findDeployment(tx, deployment), now())
  }
  return {
    async startCapture(order, caller) {
      await checkSpace(library.folder)
      await roomIn(library)
      const deployment = await db.transaction().execute(async (tx) => {
        const started = await startCapture(tx, order, now())
        await recordAnswer(tx, onceOf(caller), { capture: await viewOf(started, tx) })
        return started
      })
      return { capture: await viewOf(deployment) }
    },
    async getCapture({ deployment }) {
      return { capture: await viewOf(deployment) }
    },
    async listCaptures({ nodeset, ...input }) {
      const page = await pageOfCaptures(db, await hostIdsOf(db, nodeset), pageOf(input, 20))
      return { captures: await Promise.all(page.rows.map((one) => viewOf(one.deployment_id))), ...nextOf(page) }
    },
    async cancelCapture({ deployment }, caller) {
      await db.transaction().execute(async (tx) => {
        await findCapture(tx, deployment)
        await cancelDeployments(tx, (await findDeployment(tx, deployment)).rollout_id, undefined, caller, now())
      })
      await sweepCaptures(world)
      return { capture: await viewOf(deployment) }
    },
  }
}

/** Writes the capture and points the host at the scout, or neither. */
async function startCapture(tx: Db, order: Order, now: number): Promise<number> {
  const reference = parseImageReference(order.image)
  const [host] = await findHosts(tx, [order.host])
  invariant(host, 'findHosts returns every host or fails')
  await refuseTaken(tx, reference)
  const busy = (await activeDeployments(tx, [host.id])).get(host.id)
  if (busy) {
    const words = `rollout ${busy.rollout_id} is at work on ${host.name}: wait for it or cancel it`
    throw new Failure('wrong-state', words, { at: 'host' })
  }
  if (!(await powerMethodsOf(tx, [host.id])).get(host.id)?.length) {
    throw new Failure('no-power-method', `${host.name} has no power method`, { at: 'host' })
  }
  if (!(await interfacesOf(tx, [host.id])).get(host.id)?.length) {
    throw new Failure('wrong-state', `${host.name} has no interface to boot from`, { at: 'host' })
  }
  const { deploymentId } = await addCapture(
    tx,
    host.id,
    {
      ...reference,
      disk: order.disk,
      hints: order.hints ?? [],
      partition: order.partition,
      repair: order.repair ?? false,
      finish: order.finish ?? 'reboot',
      deadlineMs: order.deadlineSeconds === undefined ? captureMs : order.deadlineSeconds * 1000,
      storedBytesMax: order.storedBytesMax,
    },
    now,
  )
  if (!(await armBootRecord(tx, host.id, deploymentId, now))) {
    const words = `${host.name} was taken by another rollout at this moment: ask again`
    throw new Failure('wrong-state', words, { at: 'host' })
  }
  const which = [order.partition && `partition ${order.partition} of`, `disk ${order.disk ?? 'system'}`].filter(Boolean)
  const text = `captures ${which.join(' ')} as ${formatImageReference(reference)}${order.repair ? ', repaired' : ''}`
  await addEvent(tx, { source: 'control', kind: 'capture-started', text, hostId: host.id, deploymentId }, now)
  return deploymentId
}

/** A name is refused here and not after hours of reading. */
async function refuseTaken(tx: Db, reference: ImageReference): Promise<void> {
  const name = formatImageReference(reference)
  const taken = (sentence: string) => new Failure('already-exists', sentence, { at: 'image' })
  if (await lookUpImage(tx, reference)) throw taken(`there is an image ${name} already: give it another version`)
  const task = await runningTask(tx, 'publish-image', name)
  if (task) throw taken(`task ${task.id} is publishing ${name} now`)
  const capturing = await captureUnderWay(tx, reference)
  if (capturing !== undefined) throw taken(`deployment ${capturing} is capturing ${name} now`)
}

/** Removes what came of captures that have ended. */
export async function sweepCaptures({ db, library, log }: World): Promise<void> {
  const running = await capturesUnderWay(db)
  for (const deployment of await capturedDisks(library)) {
    if (running.has(deployment)) continue
    await removeCaptured(library, deployment)
    log.info({ deployment }, 'what came of a captured disk was removed')
  }
}

/** How often what is left of captures is looked for: a failed one may have filled the volume. */
const sweepEveryMs = 30_000

/** Sweeps now and then until closed. */
export function startCaptureSweep(world: World): { readonly close: () => Promise<void> } {
  let sweeping = Promise.resolve()
  const sweep = () => {
    sweeping = sweeping
      .then(() => sweepCaptures(world))
      .catch((error: unknown) => world.log.error({ err: error }, 'what is left of captures could not be removed'))
  }
  sweep()
  const timer = setInterval(sweep, sweepEveryMs)
  return {
    async close() {
      clearInterval(timer)
      await sweeping
    },
  }
}
