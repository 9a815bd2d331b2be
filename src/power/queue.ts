// Who may ask when. Each controller gets one command at a time with a pause after it, because controllers are small
// computers that crash or lock up under parallel sessions; and one switch at a time. Over all controllers together there
// is a bound on commands and on requests, because ten thousand machines may be asked for in one call.
import { setTimeout as delay } from 'node:timers/promises'
import pLimit, { type LimitFunction } from 'p-limit'
import { Failure } from '../model/failure.ts'

/** Between the end of one command and the start of the next one to the same controller. */
const spacingMs = 100
/** Commands under way at once: each is a process of some 5 MB. */
const commandsMax = 64
/** Requests under way at once. More than the commands, since most of a request is waiting for a machine to get there. */
const requestsMax = 256
/** In one controller's queue, the one under way included. Only a caller gone wild gets there, and it shall hear of it. */
const queuedMax = 32

/** Kept only while somebody is in it. */
type Queue = { readonly limit: LimitFunction; length: number }

const everyCommand = pLimit(commandsMax)
const everyRequest = pLimit(requestsMax)
const commands = new Map<string, Queue>()
const switches = new Map<string, Queue>()

/** Runs one command when the controller at `address` is free. While it waits, an abort rejects with the signal's reason. */
export function asCommand<T>(address: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  return inQueue(commands, { address, signal, pauseMs: spacingMs }, () => whenFree(everyCommand, { signal }, work))
}

/** Runs one request, which is one or more commands, when there are not too many under way. An abort is as in asCommand. */
export function asRequest<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  return whenFree(everyRequest, { signal }, work)
}

/**
 * Runs one request that changes something when no other one of this controller is under way: an `off` between an `on`
 * and its read-back would make a liar of an honest controller. Commands of others may come in between.
 */
export function asSwitch<T>(address: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  return inQueue(switches, { address, signal, pauseMs: 0 }, () => asRequest(signal, work))
}

/** How many controllers have a queue now. */
export function queuesInUse(): number {
  return commands.size + switches.size
}

type Place = {
  /** Empty: there is no controller that would need a queue. */
  readonly address: string
  readonly signal: AbortSignal
  readonly pauseMs: number
}

async function inQueue<T>(queues: Map<string, Queue>, place: Place, work: () => Promise<T>): Promise<T> {
  const key = place.address.toLowerCase()
  if (key === '') return work()
  const queue = queues.get(key) ?? { limit: pLimit(1), length: 0 }
  if (queue.length >= queuedMax) {
    throw new Failure('bmc-unreachable', `${queue.length} requests wait for controller ${place.address} already`)
  }
  queues.set(key, queue)
  queue.length += 1
  const leave = () => {
    queue.length -= 1
    if (queue.length === 0) queues.delete(key)
  }
  return whenFree(queue.limit, { ...place, leave }, work)
}

/**
 * The caller goes on as soon as its work has ended, or the signal was aborted before it began; the place is taken until
 * the pause after the work is over too, and then `leave` is called.
 */
function whenFree<T>(
  limit: LimitFunction,
  { signal, pauseMs = 0, leave }: { signal: AbortSignal; pauseMs?: number; leave?: () => void },
  work: () => Promise<T>,
): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>()
  const giveUp = () => reject(signal.reason)
  if (signal.aborted) giveUp()
  signal.addEventListener('abort', giveUp, { once: true })
  void limit(async () => {
    // From here on the work itself heeds the signal, and knows better what its end means.
    signal.removeEventListener('abort', giveUp)
    if (signal.aborted) return
    await work().then(resolve, reject)
    if (pauseMs > 0) await delay(pauseMs)
  }).finally(leave)
  return promise
}
