// What the Power Port does with a driver: ask kindly, look what became of it, and say no more than was seen. Here live the
// retries (of silence only), the deadline, the refusal to send a wrong password twice, and the reading back. Drivers know
// none of it. A controller's own power cycle is never used: some only switch off, some refuse when off, and no status can
// tell afterwards whether it happened; an `off` and an `on`, each read back, can be believed.
import { setTimeout as delay } from 'node:timers/promises'
import pRetry from 'p-retry'
import { Failure } from '../model/failure.ts'
import type { BootDevice, PowerAction, PowerMethod, PowerState } from '../model/power.ts'
import { type BootOverride, isLoginRefused, type PowerDriver, type SwitchAction } from './driver.ts'
import { driverOf } from './drivers.ts'
import { asCommand, asRequest, asSwitch } from './queue.ts'
import { forgetRefusal, heedRefusal, rememberRefusal } from './refusals.ts'

/** How often a silent or busy controller is asked in all; between the attempts 0.5 s, then 1 s. */
const attemptsMax = 3
const firstPauseMs = 500
/** From asking to giving up, where the caller names no deadline. Servers take up to 10 s to switch off, chassis longer. */
const defaultDeadlineMs = 60_000
/** Reading back: soon at first, because most controllers are quick, then at a pace that no controller minds. */
const firstLookMs = 200
const lookEveryMsMax = 2_000
/** How long a running system may take to shut down before it is switched off; it comes on top of the deadline. */
const softMs = 60_000
/** How long a cycle leaves the machine off: IPMI 2.0 (28.3) asks for at least one second, for capacitors and relays. */
const usualOffMs = 1_000

/** The part of a logger that is used here: one object, one sentence. */
export type PowerLog = Record<'info' | 'warn', (fields: Record<string, unknown>, sentence: string) => void>

export type PowerOptions = {
  /** Aborting ends the request soon, with a Failure `cancelled`. */
  readonly signal?: AbortSignal
  /** Milliseconds from when the controller is asked; waiting behind other requests is not counted. */
  readonly deadlineMs?: number
  /** Before an `off` or a `cycle`, lets the running system shut down by itself, where the driver can ask it to. */
  readonly soft?: boolean
  /** How long a `cycle` leaves the machine off; it comes on top of the deadline. */
  readonly offMs?: number
  readonly log?: PowerLog
}

/**
 * What became of a request. `confirmed`: the controller was asked afterwards and says what was asked for. False where
 * nobody can look (`reached` is then `unknown`), and for a reset, which no status shows.
 */
export type PowerOutcome = {
  readonly asked: true
  readonly reached: PowerState
  readonly confirmed: boolean
  /** Commands that asked for something, those that met silence included; reading back is not counted. */
  readonly tries: number
  readonly ms: number
}

/** As PowerOutcome. `asked` is false where the driver has no such thing: somebody else must see to the boot device. */
export type BootDeviceOutcome = {
  readonly asked: boolean
  readonly reached: BootOverride['device']
  readonly confirmed: boolean
  readonly tries: number
  readonly ms: number
}

/** The power method works, with what it answered, or which of the things it needs does not, and how it failed. */
export type PowerTest =
  | { readonly works: true; readonly state: PowerState; readonly ms: number }
  | {
      readonly works: false
      readonly failed: 'method' | 'reach' | 'login' | 'status'
      readonly failure: Failure
      readonly ms: number
    }

/** For callers who never cancel. */
const never = new AbortController().signal

/** One request to one controller: who, how long, and how often it asked. */
type Request = {
  readonly method: PowerMethod
  readonly driver: PowerDriver
  readonly signal: AbortSignal
  /** The caller's part of `signal`. */
  readonly cancelled: AbortSignal
  readonly log: PowerLog | undefined
  readonly deadlineMs: number
  readonly startMs: number
  tries: number
}

/**
 * Switches the power and waits until the controller says that it is so. Throws a Failure: `bmc-unreachable` (silent),
 * `bmc-refused` (would not; `at` is `username` or `password` when these were wrong), `bmc-lies` (said yes, and the state
 * was another until the deadline), `wrong-state` (reset of a machine that is off), `unknown-driver`, `bad-input`, `cancelled`.
 */
export async function switchPower(
  method: PowerMethod,
  action: PowerAction,
  options: PowerOptions = {},
): Promise<PowerOutcome> {
  return inTurn(asSwitch, { method, options, what: `power ${action}` }, async (request) => {
    let reached: PowerState = 'unknown'
    if (options.soft && (action === 'off' || action === 'cycle')) await shutDown(request)
    const steps: SwitchAction[] = action === 'cycle' ? ['off', 'on'] : [action]
    const { offMs = usualOffMs } = options
    for (const [i, step] of steps.entries()) {
      if (i > 0 && reached !== 'unknown') await delay(offMs, undefined, { signal: request.signal })
      reached = await takeStep(request, step)
    }
    const confirmed = reached !== 'unknown' && action !== 'reset'
    const outcome = { asked: true, reached, confirmed, tries: request.tries, ms: elapsed(request) } as const
    request.log?.info({ bmc: method.address, action, ...outcome }, 'power was switched')
    return outcome
  })
}

/**
 * Asks for the device of the next boot only, and for UEFI boot of it when `efi` or the method's own option says so. Ask
 * right before the machine is switched: an IPMI controller forgets it after 60 s without a power command (table 28-14).
 * Throws as switchPower does; `bmc-lies` when the controller says yes and then tells of another device.
 */
export async function setBootDevice(
  method: PowerMethod,
  device: BootDevice,
  options: PowerOptions & { readonly efi?: boolean } = {},
): Promise<BootDeviceOutcome> {
  const boot = { device, efi: options.efi ?? false }
  return inTurn(asSwitch, { method, options, what: `boot device ${device}` }, async (request) => {
    const ask = request.driver.setBootDevice?.bind(request.driver)
    if (!ask) return { asked: false, reached: 'unknown', confirmed: false, tries: 0, ms: 0 }
    const said = await insist(request, () => ask(method, boot, request.signal))
    if (said.device !== device && said.device !== 'unknown') {
      const told = said.device === 'other' ? 'another' : said.device
      throw new Failure(
        'bmc-lies',
        `controller ${method.address} said yes to boot device ${device}, but tells of ${told}`,
      )
    }
    const confirmed = said.device === device && said.once
    return { asked: true, reached: said.device, confirmed, tries: request.tries, ms: elapsed(request) }
  })
}

/** Asks the controller for the power state now. Throws as switchPower does. */
export async function readPower(method: PowerMethod, options: PowerOptions = {}): Promise<PowerState> {
  // A look does not wait for a switch to end, which may take a minute.
  return inTurn(
    (_, signal, work) => asRequest(signal, work),
    { method, options, what: 'power status' },
    (request) => insist(request, () => request.driver.status(method, request.signal)),
  )
}

/**
 * Tries a power method out: is it well-formed, does the controller answer, does it accept the login, does it tell its
 * state. Asks the controller even when it refused this login lately, because a person wants to know now.
 */
export async function testPowerMethod(method: PowerMethod, options: PowerOptions = {}): Promise<PowerTest> {
  const startMs = performance.now()
  const since = () => Math.round(performance.now() - startMs)
  try {
    driverOf(method)
    forgetRefusal(method)
    return { works: true, state: await readPower(method, options), ms: since() }
  } catch (failure) {
    if (!(failure instanceof Failure) || failure.code === 'cancelled') throw failure
    return { works: false, failed: failedPart(failure), failure, ms: since() }
  }
}

function failedPart(failure: Failure): 'method' | 'reach' | 'login' | 'status' {
  if (failure.code === 'bad-input' || failure.code === 'unknown-driver') return 'method'
  if (failure.code === 'bmc-unreachable') return 'reach'
  const { at } = failure
  return isLoginRefused(failure) || at === 'login' || at?.startsWith('options.') ? 'login' : 'status'
}

/**
 * Runs `work` when `queue` lets it. Only then the deadline begins, because waiting behind others is not the controller's
 * fault. Gives an abort its name: the caller's, or the deadline's. Failures pass as they are.
 */
async function inTurn<T>(
  queue: typeof asSwitch,
  { method, options, what }: { method: PowerMethod; options: PowerOptions; what: string },
  work: (request: Request) => Promise<T>,
): Promise<T> {
  const driver = driverOf(method)
  const deadlineMs = (options.deadlineMs ?? defaultDeadlineMs) + (options.soft ? softMs : 0) + (options.offMs ?? 0)
  const cancelled = options.signal ?? never
  let deadline = never
  try {
    return await queue(method.address, cancelled, () => {
      deadline = AbortSignal.timeout(deadlineMs)
      const signal = AbortSignal.any([cancelled, deadline])
      const { log } = options
      return work({ method, driver, signal, cancelled, log, deadlineMs, startMs: performance.now(), tries: 0 })
    })
  } catch (error) {
    if (cancelled.aborted) {
      throw new Failure('cancelled', `${what} of controller ${method.address} was cancelled`, { cause: error })
    }
    const isAbort = error === deadline.reason || (error instanceof Failure && error.code === 'cancelled')
    if (!deadline.aborted || !isAbort) throw error
    const seconds = inSeconds(deadlineMs)
    throw new Failure('bmc-unreachable', `controller ${method.address} did not answer to ${what} within ${seconds}`, {
      cause: error,
    })
  }
}

function inSeconds(ms: number): string {
  return `${Math.round(ms / 100) / 10} s`
}

function elapsed(request: Request): number {
  return Math.round(performance.now() - request.startMs)
}

/** Asks for one step and reads back until it is so. Returns `unknown` where nobody can look. */
async function takeStep(request: Request, step: SwitchAction): Promise<PowerState> {
  const { driver, method, signal } = request
  const wanted = step === 'off' ? 'off' : 'on'
  if (step === 'reset' && (await insist(request, () => driver.status(method, signal), 0)) === 'off') {
    throw new Failure(
      'wrong-state',
      `the machine of controller ${method.address} is off: only one that is on can be reset`,
    )
  }
  await insist(request, () => driver.apply(method, step, signal))
  let last: PowerState | Failure | undefined
  try {
    for (let pauseMs = firstLookMs; ; pauseMs = Math.min(pauseMs * 1.5, lookEveryMsMax)) {
      last = await look(request)
      if (last === wanted || last === 'unknown') return last
      await delay(pauseMs, undefined, { signal })
    }
  } catch (error) {
    if (!signal.aborted || request.cancelled.aborted) throw error
    throw notReached(request, step, last)
  }
}

/**
 * Asks the running system to switch its machine off and waits for it, within a bound. Whatever comes of it, the machine is
 * switched off afterwards: nothing that went wrong here is the end of the request, but a wrong password and an abort are.
 */
async function shutDown(request: Request): Promise<void> {
  const { driver, method, signal } = request
  const ask = driver.shutDown?.bind(driver)
  if (!ask) return
  try {
    if ((await insist(request, () => driver.status(method, signal), 0)) !== 'on') return
    await insist(request, () => ask(method, signal))
    const end = performance.now() + softMs
    for (let pauseMs = firstLookMs; performance.now() < end; pauseMs = Math.min(pauseMs * 1.5, lookEveryMsMax)) {
      if ((await look(request)) === 'off') return
      await delay(pauseMs, undefined, { signal })
    }
    request.log?.info({ bmc: method.address, ms: softMs }, 'the system did not shut down; it is switched off')
  } catch (error) {
    if (signal.aborted || isLoginRefused(error) || !(error instanceof Failure)) throw error
    request.log?.warn({ bmc: method.address, reason: error.message }, 'the system could not be asked to shut down')
  }
}

/** The state now, or the failure of a silence: a controller may go silent while its machine switches, and is asked on. */
async function look(request: Request): Promise<PowerState | Failure> {
  try {
    return await askOnce(request, () => request.driver.status(request.method, request.signal))
  } catch (error) {
    if (error instanceof Failure && error.code === 'bmc-unreachable') return error
    throw error
  }
}

function notReached(request: Request, step: SwitchAction, last: PowerState | Failure | undefined): Failure {
  const { method, deadlineMs } = request
  const seconds = inSeconds(deadlineMs)
  if (last === 'on' || last === 'off') {
    return new Failure(
      'bmc-lies',
      `controller ${method.address} said yes to ${step}, but is still ${last} after ${seconds}`,
    )
  }
  return new Failure(
    'bmc-unreachable',
    `controller ${method.address} said yes to ${step}, then nothing for ${seconds}`,
    {
      cause: last,
    },
  )
}

/** Asks, and asks again when there was silence. The one place that repeats. */
async function insist<T>(request: Request, ask: () => Promise<T>, counts = 1): Promise<T> {
  return pRetry(
    () => {
      request.tries += counts
      return askOnce(request, ask)
    },
    {
      retries: attemptsMax - 1,
      minTimeout: firstPauseMs,
      signal: request.signal,
      shouldRetry: ({ error }) => error instanceof Failure && error.code === 'bmc-unreachable',
      onFailedAttempt: ({ error, attemptNumber, retriesLeft }) => {
        if (retriesLeft === 0 || !(error instanceof Failure) || error.code !== 'bmc-unreachable') return
        request.log?.warn(
          { bmc: request.method.address, attempt: attemptNumber, reason: error.message },
          'asking again',
        )
      },
    },
  )
}

/** One command in the controller's queue, unless it refused this very login lately. */
function askOnce<T>(request: Request, ask: () => Promise<T>): Promise<T> {
  const { method, signal } = request
  return asCommand(method.address, signal, async () => {
    heedRefusal(method)
    try {
      const answer = await ask()
      forgetRefusal(method)
      return answer
    } catch (error) {
      if (isLoginRefused(error)) rememberRefusal(method, error)
      throw error
    }
  })
}
