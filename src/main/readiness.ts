// Whether each part of the service can do its work now, from what it did last or from trying. Asked by load balancers, by people
// and by the figures; the answers hold no secret.
import { randomBytes } from 'node:crypto'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { countRunningTasks } from '../db/figures.ts'
import type { World } from '../operations/world.ts'
import type { PartHealth } from '../ports/health.ts'

/** Answers younger than this are given again: whoever asks a thousand times a second costs one look. */
const freshMs = 1000
/** A part that cannot be looked at within this is not ready. */
const lookMsMax = 3000
/** How often the database is asked for the figures. */
const askEveryMs = 5000
/** The engine looks four times a second; a look that takes longer than this is one too many. */
const roundAgeMsMax = 15_000

export type Readiness = {
  readonly parts: () => Promise<readonly PartHealth[]>
  /** The engine has looked for work. */
  readonly round: (round: { readonly failed: boolean }) => void
  /** These listeners are open. */
  readonly bound: (names: readonly string[]) => void
  /** From now on nothing is ready. */
  readonly stopping: () => void
  readonly close: () => Promise<void>
}

/** `onDatabase` is told how long the database took, now and then. */
export function startReadiness(
  { db, library, startedAt, now }: Pick<World, 'db' | 'library' | 'startedAt' | 'now'>,
  onDatabase: (ms: number, failed: boolean) => void,
): Readiness {
  let isStopping = false
  let listening: readonly string[] = []
  let lastRoundAt = startedAt

  const database = fresh(async () => {
    const began = performance.now()
    const failure = await within(countRunningTasks(db))
    onDatabase(performance.now() - began, failure !== undefined)
    return part('database', failure && `it does not answer: ${failure}`)
  })
  const writable = fresh(async () => {
    const file = join(library.folder, `.writable-${randomBytes(6).toString('hex')}`)
    const failure = await within(writeFile(file, 'x').then(() => rm(file)))
    return part('library', failure && `the image library cannot be written: ${failure}`)
  })
  const engine = (): PartHealth => {
    const ageMs = now() - lastRoundAt
    return part('engine', ageMs > roundAgeMsMax && `it has not looked for work for ${Math.round(ageMs / 1000)} s`)
  }
  const asking = setInterval(() => void database(), askEveryMs)
  return {
    async parts() {
      const rows = await Promise.all([database(), writable()])
      const listeners = listening.map((name) => part(name, isStopping && 'it is stopping'))
      return [part('service', isStopping && 'it is stopping'), ...rows, engine(), ...listeners]
    },
    round({ failed }) {
      if (!failed) lastRoundAt = now()
    },
    bound(names) {
      listening = [...listening, ...names]
    },
    stopping() {
      isStopping = true
    },
    async close() {
      clearInterval(asking)
      await database()
    },
  }
}

function part(name: string, why: string | false | undefined): PartHealth {
  return why === false || why === undefined ? { part: name, ok: true } : { part: name, ok: false, why }
}

/** Why `work` failed, in words without a path or an address; undefined when it did not. */
async function within(work: Promise<unknown>): Promise<string | undefined> {
  const late = new AbortController()
  const timeout = delay(lookMsMax, `no answer within ${lookMsMax / 1000} s`, { signal: late.signal, ref: false })
  try {
    return await Promise.race([
      work.then(
        () => undefined,
        (error: unknown) => codeOf(error),
      ),
      timeout,
    ])
  } finally {
    late.abort()
    timeout.catch(() => {})
  }
}

function codeOf(error: unknown): string {
  const { code } = error as { code?: unknown }
  return typeof code === 'string' ? code : 'an error that the log tells'
}

/** `look`, whose answer is given again for a moment; those who ask meanwhile share it. */
function fresh<T>(look: () => Promise<T>): () => Promise<T> {
  let last: Promise<T> | undefined
  let at = Number.NEGATIVE_INFINITY
  return () => {
    if (last && performance.now() - at < freshMs) return last
    at = performance.now()
    last = look()
    return last
  }
}
