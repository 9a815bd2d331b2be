// Calls a port, typed from its contract: over HTTP or a unix socket by REST, or inside this process. What a call can throw
// is a Failure in all three.
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { checkInput, checkOutput } from '../contract/check.ts'
import { failureBody, fromFailureBody } from '../contract/failure-body.ts'
import {
  type Caller,
  type CallOptions,
  type Handlers,
  idempotencyKey,
  type Operation,
  type Operations,
  type Port,
  type PortClient,
} from '../contract/operation.ts'
import { toRestForm } from '../contract/rest-form.ts'
import { compileCheck } from '../lib/schema.ts'
import type { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'
import { agentFor, type Trust } from './trust.ts'

/** How a port is reached. */
export type Transport =
  | {
      readonly kind: 'http'
      /** As `http://10.77.0.1:7780`. */
      readonly baseUrl: string
      readonly token?: Secret
      readonly deadlineMs?: number
      /** For https; without it the system's authorities decide. */
      readonly trust?: Trust
    }
  | { readonly kind: 'unix'; readonly socketPath: string; readonly token?: Secret; readonly deadlineMs?: number }

/** Longer than the longest wait that a call can ask for (`waitMs` of listEvents). */
const usualDeadlineMs = 90_000

/** An answer longer than this is not one of ours: ten thousand hosts with their inventories have half of it. */
const answerBytesMax = 256 * 1024 * 1024

/**
 * A client of `port`. Opens connections as calls need them and keeps them for the next; they do not keep the process
 * alive. Calls throw the Failure that the service answered; `service-unreachable` when there was no answer in time, or not
 * one of HaDeS; `cancelled`, or the reason if it is a Failure, when the caller's signal aborts. `idempotencyKey` goes with
 * every call that takes one.
 */
export function createClient<Ops extends Operations>(
  port: Port<Ops>,
  transport: Transport,
  { idempotencyKey }: { readonly idempotencyKey?: string | undefined } = {},
): PortClient<Ops> {
  const agentOf = connections(transport)
  return clientOf(port, (operation, name, input, options) => {
    const key = operation.once === undefined || idempotencyKey === undefined ? {} : { idempotencyKey }
    return callOverHttp({ port, operation, name, transport, agentOf }, input, { ...key, ...options })
  })
}

/** Gives the agent that keeps the connections; over TLS it is made at the first call, which looks at the certificate. */
function connections(transport: Transport): () => Promise<Agent> {
  const options = { keepAlive: true }
  if (transport.kind === 'unix' || !transport.baseUrl.startsWith('https:')) {
    const agent = new Agent(options)
    return async () => agent
  }
  let agent: Promise<Agent> | undefined
  return async () => {
    agent ??= agentFor(new URL(transport.baseUrl), transport.trust, options)
    try {
      return await agent
    } catch (error) {
      // The service may be there at the next call.
      agent = undefined
      throw error
    }
  }
}

/**
 * A client of handlers in this process, as `caller`. Inputs and outputs pass the same checks as over the network, so
 * that what works here works there.
 */
export function inProcess<Ops extends Operations>(
  port: Port<Ops>,
  handlers: Handlers<Ops>,
  caller: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'in-process' },
): PortClient<Ops> {
  return clientOf(port, async (operation, name, input, { signal }) => {
    // The handler of this name takes what the check of this name lets through.
    const handler = handlers[name] as (input: unknown, caller: Caller, signal?: AbortSignal) => Promise<unknown>
    try {
      signal?.throwIfAborted()
      const answer = handler(checkInput(operation, input), caller, signal)
      return checkOutput(operation, signal ? await unlessAborted(answer, signal) : await answer).output
    } catch (error) {
      if (signal?.aborted) throw abortFailure(signal, name)
      if (error instanceof Failure) throw error
      throw new Failure('internal', `${name} met a bug`, { cause: error })
    }
  })
}

type Call = (operation: Operation, name: string, input: unknown, options: CallOptions) => Promise<unknown>

function clientOf<Ops extends Operations>(port: Port<Ops>, call: Call): PortClient<Ops> {
  const methods = Object.entries(port.operations).map(([name, operation]) => [
    name,
    (input: unknown, options: CallOptions = {}) => call(operation, name, input, options),
  ])
  // One method for each operation, whose input and output are what the entry says.
  return Object.fromEntries(methods) as PortClient<Ops>
}

type HttpCall = {
  readonly port: Port
  readonly operation: Operation
  readonly name: string
  readonly transport: Transport
  readonly agentOf: () => Promise<Agent>
}

async function callOverHttp(call: HttpCall, input: unknown, options: CallOptions): Promise<unknown> {
  const { transport, operation, port, name } = call
  const where = transport.kind === 'unix' ? transport.socketPath : transport.baseUrl
  const deadlineMs = options.deadlineMs ?? transport.deadlineMs ?? usualDeadlineMs
  const deadline = AbortSignal.timeout(deadlineMs)
  const signal = options.signal ? AbortSignal.any([options.signal, deadline]) : deadline
  try {
    // Inputs of every operation are objects.
    const form = toRestForm(port, operation, input as Readonly<Record<string, unknown>>)
    const agent = await unlessAborted(call.agentOf(), signal)
    const answer = await exchange(call, agent, form, { signal, idempotencyKey: options.idempotencyKey })
    return read(answer, call, where)
  } catch (error) {
    if (error instanceof Failure) throw error
    if (options.signal?.aborted) throw abortFailure(options.signal, `${name} at ${where}`)
    const what = deadline.aborted
      ? `did not answer ${name} within ${deadlineMs} ms`
      : isStrange(error)
        ? `shows a certificate that is not known here: compare what \`hades ca\` prints on its machine, and give --fingerprint`
        : `cannot be reached for ${name}${codeOf(error)}`
    throw new Failure('service-unreachable', `${where} ${what}`, { cause: error })
  }
}

/** True when it is the certificate that is wrong: OpenSSL's codes of a chain that ends at nobody known. */
function isStrange(error: unknown): boolean {
  const { code } = error as { code?: unknown }
  const codes = ['SELF_SIGNED_CERT_IN_CHAIN', 'DEPTH_ZERO_SELF_SIGNED_CERT', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE']
  return typeof code === 'string' && codes.includes(code)
}

/** The system's own code, because the sentence of a refused connection can be empty. */
function codeOf(error: unknown): string {
  const { code } = error as { code?: unknown }
  return typeof code === 'string' ? `: ${code}` : ''
}

type Answer = { readonly status: number; readonly type: string; readonly body: Buffer }

function exchange(
  { transport }: HttpCall,
  agent: Agent,
  form: { readonly method: string; readonly path: string; readonly body: string | undefined },
  { signal, idempotencyKey: key }: { readonly signal: AbortSignal; readonly idempotencyKey: string | undefined },
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  const headers = {
    accept: 'application/json',
    ...(form.body === undefined
      ? {}
      : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(form.body) }),
    ...(key === undefined ? {} : { [idempotencyKey.header]: key }),
    ...(transport.token === undefined ? {} : { authorization: `Bearer ${transport.token.reveal()}` }),
  }
  const options = { method: form.method, headers, agent, signal }
  const onAnswer = (message: IncomingMessage): void => {
    collect(message).then(resolve, reject)
  }
  const request =
    transport.kind === 'unix'
      ? httpRequest({ ...options, socketPath: transport.socketPath, path: form.path, host: 'localhost' }, onAnswer)
      : requestUrl(new URL(transport.baseUrl.replace(/\/$/, '') + form.path), options, onAnswer)
  request.once('error', reject)
  request.end(form.body)
  return promise
}

function requestUrl(url: URL, options: object, onAnswer: (message: IncomingMessage) => void) {
  return url.protocol === 'https:' ? httpsRequest(url, options, onAnswer) : httpRequest(url, options, onAnswer)
}

async function collect(message: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of message) {
    bytes += (chunk as Buffer).length
    if (bytes > answerBytesMax) throw new Error(`the answer is longer than ${answerBytesMax} bytes`)
    chunks.push(chunk as Buffer)
  }
  return { status: message.statusCode ?? 0, type: message.headers['content-type'] ?? '', body: Buffer.concat(chunks) }
}

const checkFailureBody = compileCheck(failureBody)

function read({ status, type, body }: Answer, { operation, name }: HttpCall, where: string): unknown {
  const strange = (cause?: unknown): Failure =>
    new Failure(
      'service-unreachable',
      `${where} answered ${name} with ${status} ${type || 'and no type'}, not as HaDeS does`,
      {
        cause,
      },
    )
  if (!type.startsWith('application/json')) throw strange()
  let value: unknown
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch (cause) {
    throw strange(cause)
  }
  if (status !== 200) {
    if (checkFailureBody(value).length > 0) throw strange()
    // Checked in the line above.
    throw fromFailureBody(value as Parameters<typeof fromFailureBody>[0])
  }
  try {
    return checkOutput(operation, value).output
  } catch (cause) {
    throw strange(cause)
  }
}

/** `work`, or a rejection as soon as `signal` aborts; the work itself goes on. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const abort = (): void => reject(new Error('aborted'))
  signal.addEventListener('abort', abort, { once: true })
  return Promise.race([promise, work]).finally(() => signal.removeEventListener('abort', abort))
}

/** A signal that is a timer says that the service was too slow; any other says that somebody no longer wants the answer. */
function abortFailure(signal: AbortSignal, what: string): Failure {
  const { reason: cause } = signal as { reason: unknown }
  if (cause instanceof Failure) return cause
  if (cause instanceof DOMException && cause.name === 'TimeoutError') {
    return new Failure('service-unreachable', `${what}: no answer in time`, { cause })
  }
  return new Failure('cancelled', `${what} was given up`, { cause })
}
