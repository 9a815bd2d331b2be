// How the service hears of the work: progress at its own pace beside the transfer, never in its way, and calls that are
// repeated until the service has answered. An answer can end the work.
import { setTimeout as delay } from 'node:timers/promises'
import pRetry from 'p-retry'
import { failureMeanings } from '../contract/failures.ts'
import type { PortClient } from '../contract/operation.ts'
import type { serviceOperations } from '../contract/service.ts'
import type { TransferCounts } from '../contract/types.ts'
import type { DeploymentStep } from '../model/deployment.ts'
import { Failure } from '../model/failure.ts'
import type { Log } from './log.ts'

export type ServiceClient = PortClient<typeof serviceOperations>

export type ReportLimits = {
  /** One call to the service takes no longer. */
  readonly callMs: number
  /** The first pause before a call is repeated; it doubles up to `pauseMsMax`. */
  readonly pauseMs: number
  readonly pauseMsMax: number
}

export const reportLimits: ReportLimits = { callMs: 15_000, pauseMs: 500, pauseMsMax: 15_000 }

/** The rate is over so long: shorter shows the bursts of single frames, longer hides that it stopped. */
const rateWindowMs = 5_000

/** A line for the timeline is worth so many tries; the work does not wait for more. */
const eventTries = 3

type Sample = { readonly atMs: number; readonly bytes: number }

/** Bytes a second from the oldest to the newest sample. */
export function rateOf(samples: readonly Sample[]): number {
  const [first, last] = [samples[0], samples.at(-1)]
  if (first === undefined || last === undefined || last.atMs <= first.atMs) return 0
  return Math.max(0, ((last.bytes - first.bytes) * 1000) / (last.atMs - first.atMs))
}

/** True when asking again can help: the service is away, or the fault is on its side. */
export function canHelpToAskAgain(error: unknown): boolean {
  return !(error instanceof Failure) || failureMeanings[error.code].fault === 'receiver'
}

/**
 * Calls the service until it answers. Throws the service's Failure when it answers that asking again will not help
 * (`token-refused` and the like), or the reason of `signal`.
 */
export async function untilAnswered<T>(
  what: string,
  call: (signal: AbortSignal) => Promise<T>,
  { log, limits, signal, tries }: { log: Log; limits: ReportLimits; signal: AbortSignal; tries?: number },
): Promise<T> {
  return pRetry(() => call(AbortSignal.any([signal, AbortSignal.timeout(limits.callMs)])), {
    signal,
    retries: tries === undefined ? Number.POSITIVE_INFINITY : tries - 1,
    minTimeout: limits.pauseMs,
    maxTimeout: limits.pauseMsMax,
    randomize: true,
    shouldRetry: ({ error, attemptNumber, retryDelay }) => {
      if (!canHelpToAskAgain(error)) return false
      log.failure(`${what}, try ${attemptNumber}: again in ${Math.round(retryDelay)} ms`, error)
      return true
    },
  })
}

export type StepTime = { readonly step: DeploymentStep; readonly seconds: number }

/**
 * Tells one deployment's progress. `signal` aborts, with a Failure, when the service says to stop or no longer knows
 * this agent; close it when the work has ended.
 */
export class Reporter {
  readonly signal: AbortSignal
  readonly #service: ServiceClient
  readonly #deployment: number
  readonly #log: Log
  readonly #limits: ReportLimits
  readonly #stop = new AbortController()
  readonly #closed = new AbortController()
  readonly #loop: Promise<void>
  #samples: Sample[] = []
  #totalBytes = 0
  #doneBytes = 0
  #sequence = 0
  #countTransfer: (() => TransferCounts) | undefined
  #steps: { step: DeploymentStep; beganMs: number }[] = []

  constructor(
    service: ServiceClient,
    deployment: number,
    options: { log: Log; limits: ReportLimits; everyMs: number; beganMs: number },
  ) {
    this.#service = service
    this.#deployment = deployment
    this.#log = options.log
    this.#limits = options.limits
    this.signal = this.#stop.signal
    this.#steps.push({ step: 'inventory', beganMs: options.beganMs })
    this.#loop = this.#reportEvery(options.everyMs)
  }

  /** The step the work is in. */
  get step(): DeploymentStep {
    return this.#steps.at(-1)?.step ?? 'inventory'
  }

  /** The next step has begun, or the one we are in goes on with another image; its bytes count from `doneBytes`. */
  begin(step: DeploymentStep, totalBytes = 0, doneBytes = 0): void {
    const beganMs = performance.now()
    this.#steps.push({ step, beganMs })
    this.#samples = [{ atMs: beganMs, bytes: doneBytes }]
    this.#doneBytes = doneBytes
    this.#totalBytes = totalBytes
    this.#log.line(`step ${step}${totalBytes > 0 ? `: ${totalBytes} bytes of disk` : ''}`)
  }

  /** Costs nothing: the next report takes the newest value. */
  progress(doneBytes: number): void {
    this.#doneBytes = doneBytes
  }

  /** From now on every report has the counts that `count` gives at that moment. */
  countBy(count: () => TransferCounts): void {
    this.#countTransfer = count
  }

  /** Seconds of each step so far, the running one included. */
  stepTimes(): StepTime[] {
    const now = performance.now()
    return this.#steps.map(({ step, beganMs }, index) => {
      const endMs = this.#steps[index + 1]?.beganMs ?? now
      return { step, seconds: Math.round(endMs - beganMs) / 1000 }
    })
  }

  /** A line for the host's timeline. When the service cannot take it, the log has it. */
  async event(kind: string, text: string): Promise<void> {
    this.#log.line(`${kind}: ${text}`)
    const input = { deployment: this.#deployment, kind, text: text.slice(0, 4000) }
    await this.#told('reportEvent', eventTries, (signal) => this.#service.reportEvent(input, { signal }))
  }

  /** Ends the reports; resolves when none is under way. */
  async close(): Promise<void> {
    this.#closed.abort()
    await this.#loop
  }

  async #reportEvery(everyMs: number): Promise<void> {
    const closed = this.#closed.signal
    while (!closed.aborted && !this.signal.aborted) {
      // One at a time: a slow service gets fewer reports, not a queue of old ones.
      await this.#told('reportProgress', 1, (signal) => this.#service.reportProgress(this.#sample(), { signal }))
      await delay(everyMs, undefined, { signal: closed }).catch(() => undefined)
    }
  }

  #sample() {
    const now = performance.now()
    this.#samples = [
      ...this.#samples.filter((one) => one.atMs >= now - rateWindowMs),
      { atMs: now, bytes: this.#doneBytes },
    ]
    const transfer = this.#countTransfer?.()
    return {
      deployment: this.#deployment,
      step: this.step,
      sequence: this.#sequence++,
      doneBytes: this.#doneBytes,
      totalBytes: this.#totalBytes,
      bytesPerSecond: Math.round(rateOf(this.#samples)),
      ...(transfer === undefined ? {} : { transfer }),
    }
  }

  /** Calls the service and heeds its answer; never throws. */
  async #told(
    what: string,
    tries: number,
    call: (signal: AbortSignal) => Promise<{ action: 'continue' | 'stop'; reason?: string }>,
  ): Promise<void> {
    const options = { log: this.#log, limits: this.#limits, signal: this.#closed.signal, tries }
    try {
      const answer = await untilAnswered(what, call, options)
      if (answer.action !== 'stop') return
      this.#stop.abort(new Failure('cancelled', `the service said to stop: ${answer.reason ?? 'without a reason'}`))
    } catch (error) {
      if (this.#closed.signal.aborted) return
      if (canHelpToAskAgain(error)) this.#log.failure(`${what} was not heard`, error)
      else this.#stop.abort(error)
    }
  }
}
