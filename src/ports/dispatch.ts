// One call of an operation, whichever face it came by: does the input fit, is it recorded, the handler, does the output fit.
import type { Logger } from 'pino'
import { checkInput, checkOutput } from '../contract/check.ts'
import {
  type Caller,
  type Handlers,
  idempotencyKey,
  type Operation,
  type Operations,
  type Port,
  type RunOnce,
  type StreamItems,
} from '../contract/operation.ts'
import { causeChain, Failure, type FailureCode } from '../model/failure.ts'
import { type Oversight, overseen } from './oversight.ts'

/** A port and what implements it. */
export type ServedPort = {
  readonly port: Port
  readonly handlers: AnyHandlers
  readonly streams?: Readonly<Record<string, StreamItems>> | undefined
}

type AnyHandlers = Readonly<Record<string, (input: unknown, caller: Caller) => Promise<unknown>>>

/** Joins a port and its handlers for `servePorts`. */
export function served<Ops extends Operations>(
  port: Port<Ops>,
  handlers: Handlers<Ops>,
  streams?: Readonly<Record<string, StreamItems>>,
): ServedPort {
  // Inputs are checked against the contract before a handler sees them, so each gets what its own type says.
  return { port, handlers: handlers as unknown as AnyHandlers, streams }
}

export type CallContext = {
  readonly log: Logger
  readonly requestId: string
  readonly oversight?: Oversight | undefined
  readonly watch?: Watch | undefined
  /** The idempotency key that came with the call. */
  readonly key?: string | undefined
  /** Runs calls with a key; without it none is taken. */
  readonly runOnce?: RunOnce | undefined
}

/** Is told what was answered; it must not throw. */
export type Watch = {
  readonly call: (call: {
    readonly port: string
    readonly operation: string
    readonly code: 'ok' | FailureCode
    readonly ms: number
  }) => void
  readonly answer: (status: number) => void
}

/** Runs an operation for an admitted caller. Throws Failure, and nothing else. */
export async function call(
  { port, handlers }: ServedPort,
  name: string,
  input: unknown,
  caller: Caller,
  context: CallContext,
): Promise<unknown> {
  const { log, requestId, oversight, watch } = context
  const operation = port.operations[name] as Operation
  const about = { port: port.name, operation: name, request: requestId }
  const began = performance.now()
  const told = (code: 'ok' | FailureCode): void => {
    watch?.call({ port: port.name, operation: name, code, ms: performance.now() - began })
  }
  try {
    const checked = checkInput(operation, input)
    // Every name of the contract has its handler: the type of `served` says so.
    const run = async (as: Caller) => await handlers[name]?.(checked, as)
    const { key } = context
    const call = { key: key ?? '', operation: `${port.name}.${name}`, isRecorded: operation.once === 'recorded' }
    const runOnce = key === undefined ? undefined : withKey(operation, context)
    const answer = await overseen(oversight, { name, operation, requestId }, { input: checked, caller }, async () =>
      runOnce === undefined ? await run(caller) : await runOnce({ ...call, input: checked, caller }, run),
    )
    const { output, remarks } = checkOutput(operation, answer)
    if (remarks.length > 0) log.warn({ ...about, remarks }, 'an answer is wider than its contract')
    log.debug({ ...about, ms: Math.round(performance.now() - began) }, 'answered')
    told('ok')
    return output
  } catch (error) {
    const failure = knownFailure(error, { log, requestId }, about)
    told(failure.code)
    throw failure
  }
}

/** What runs a call with an idempotency key. Failure `bad-input` when the key is none, or the operation takes none. */
function withKey({ once }: Operation, { key = '', runOnce }: CallContext): RunOnce {
  const refuse = (sentence: string) => new Failure('bad-input', sentence, { at: 'idempotencyKey' })
  if (!new RegExp(idempotencyKey.pattern).test(key))
    throw refuse(`an idempotency key is: ${idempotencyKey.description}`)
  if (once === undefined || runOnce === undefined) throw refuse('this operation takes no idempotency key: leave it out')
  return runOnce
}

/** A Failure as it is; anything else is a bug, told in full to the log, and without a word of it to the caller. */
export function knownFailure(error: unknown, { log, requestId }: CallContext, about: object = {}): Failure {
  if (error instanceof Failure && error.code !== 'internal') {
    log.debug({ ...about, request: requestId, code: error.code, chain: causeChain(error) }, 'refused')
    return error
  }
  log.error(
    { ...about, request: requestId, chain: causeChain(error), stack: error instanceof Error ? error.stack : undefined },
    'a call met a bug',
  )
  return new Failure('internal', `something is wrong inside the service; its log says more under request ${requestId}`)
}
