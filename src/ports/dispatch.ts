// One call of an operation, whichever face it came by: does the input fit, is it recorded, the handler, does the output fit.
import type { Logger } from 'pino'
import { checkInput, checkOutput } from '../contract/check.ts'
import type { Caller, Handlers, Operation, Operations, Port } from '../contract/operation.ts'
import { causeChain, Failure } from '../model/failure.ts'
import { type Oversight, overseen } from './oversight.ts'

/** A port and what implements it. */
export type ServedPort = { readonly port: Port; readonly handlers: AnyHandlers }

type AnyHandlers = Readonly<Record<string, (input: unknown, caller: Caller) => Promise<unknown>>>

/** Joins a port and its handlers for `servePorts`. */
export function served<Ops extends Operations>(port: Port<Ops>, handlers: Handlers<Ops>): ServedPort {
  // Inputs are checked against the contract before a handler sees them, so each gets what its own type says.
  return { port, handlers: handlers as unknown as AnyHandlers }
}

export type CallContext = {
  readonly log: Logger
  readonly requestId: string
  readonly oversight?: Oversight | undefined
}

/** Runs an operation for an admitted caller. Throws Failure, and nothing else. */
export async function call(
  { port, handlers }: ServedPort,
  name: string,
  input: unknown,
  caller: Caller,
  { log, requestId, oversight }: CallContext,
): Promise<unknown> {
  const operation = port.operations[name] as Operation
  const about = { port: port.name, operation: name, request: requestId }
  const began = performance.now()
  try {
    const checked = checkInput(operation, input)
    // Every name of the contract has its handler: the type of `served` says so.
    const answer = await overseen(oversight, { name, operation, requestId }, { input: checked, caller }, async () =>
      handlers[name]?.(checked, caller),
    )
    const { output, remarks } = checkOutput(operation, answer)
    if (remarks.length > 0) log.warn({ ...about, remarks }, 'an answer is wider than its contract')
    log.debug({ ...about, ms: Math.round(performance.now() - began) }, 'answered')
    return output
  } catch (error) {
    throw knownFailure(error, { log, requestId }, about)
  }
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
