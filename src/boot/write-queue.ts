// What waits to be written to the database: in the order in which it came, one after another, for as long as the database is
// away or locked. What there is no room for is counted, and the number written in its place.
import { setTimeout as delay } from 'node:timers/promises'

export type Waiting = {
  /** As it is told when it is lost. */
  readonly text: string
  /** Writes it; called again when the database could not be worked with. */
  readonly write: () => Promise<void>
}

export type WriteQueueOptions = {
  readonly waitingMax: number
  /** Whether time may mend what a write failed with. Anything else loses what was to be written. */
  readonly isPassing: (error: unknown) => boolean
  /** Writes how many were lost for want of room. */
  readonly writeLost: (count: number) => Promise<void>
  readonly onLost: (error: unknown, text: string) => void
  /** Once for each time that the database could not be worked with, until it could. */
  readonly onHeldUp: (error: unknown) => void
}

export type WriteQueue = {
  readonly add: (waiting: Waiting) => void
  /** Resolves when everything added so far is written or lost. */
  readonly settled: () => Promise<void>
  /** The same, but waits for no database that cannot be worked with now. */
  readonly close: () => Promise<void>
}

/** Between two tries: soon after a short lock, and seldom enough for one that lasts. */
const pauseMs = { first: 100, longest: 2000 }

export function writeQueue(options: WriteQueueOptions): WriteQueue {
  const { waitingMax, isPassing, writeLost, onLost, onHeldUp } = options
  const stopping = new AbortController()
  const queue: Waiting[] = []
  /** Counts on while its line waits at the place where the first of them would have been. */
  let lost: { count: number } | undefined
  let running = Promise.resolve()
  let isRunning = false

  const lose = (text: string): void => {
    if (lost) {
      lost.count += 1
      return
    }
    onLost(new Error(`${waitingMax} events wait for the database; this one and those after it are counted`), text)
    const mine = { count: 1 }
    lost = mine
    const write = async (): Promise<void> => {
      // From here on the number stands.
      if (lost === mine) lost = undefined
      await writeLost(mine.count)
    }
    queue.push({ text: 'the number of lost events', write })
  }
  /** False when it was given up because of the stop. */
  const written = async ({ text, write }: Waiting): Promise<boolean> => {
    for (let pause = pauseMs.first; ; pause = Math.min(2 * pause, pauseMs.longest)) {
      try {
        await write()
        return true
      } catch (error) {
        if (!isPassing(error)) {
          onLost(error, text)
          return true
        }
        if (stopping.signal.aborted) {
          onLost(error, `${queue.splice(0).length} events that waited for the database, from this one on: ${text}`)
          return false
        }
        if (pause === pauseMs.first) onHeldUp(error)
        await delay(pause, undefined, { signal: stopping.signal }).catch(() => {})
      }
    }
  }
  const run = async (): Promise<void> => {
    for (let head = queue[0]; head !== undefined; head = queue[0]) if (await written(head)) queue.shift()
    isRunning = false
  }
  return {
    add(waiting) {
      if (queue.length >= waitingMax) lose(waiting.text)
      else queue.push(waiting)
      if (isRunning) return
      isRunning = true
      running = run()
    },
    settled: () => running,
    async close() {
      stopping.abort()
      await running
    },
  }
}
