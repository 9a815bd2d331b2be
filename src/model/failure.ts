// Everything that the world can make go wrong, as a closed set of codes. `contract/failures.ts` says what each means to
// HTTP, SOAP, the CLI and the operator; nothing else picks a status. A bug is not a failure: it trips `invariant`.
import { inspect } from 'node:util'

export const failureCodes = [
  'bad-input',
  'unauthorized',
  'forbidden',
  'too-many-attempts',
  'unknown-operation',
  'too-large',
  'unknown-host',
  'unknown-setup',
  'unknown-script',
  'unknown-image',
  'unknown-deployment',
  'unknown-rollout',
  'unknown-task',
  'unknown-profile',
  'unknown-webhook',
  'unknown-delivery',
  'unknown-machine',
  'unknown-driver',
  'unknown-user',
  'unknown-token',
  'already-exists',
  'wrong-state',
  'in-use',
  'host-protected',
  'confirm-needed',
  'setup-invalid',
  'image-broken',
  'image-too-large',
  'image-corrupt',
  'disk-none',
  'disk-ambiguous',
  'disk-changed',
  'disk-error',
  'post-install-failed',
  'delivery-failed',
  'library-full',
  'origin-unreachable',
  'origin-error',
  'bmc-unreachable',
  'bmc-refused',
  'bmc-lies',
  'no-power-method',
  'boot-timeout',
  'agent-silent',
  'agent-too-old',
  'token-refused',
  'probe-timeout',
  'deadline',
  'cancelled',
  'service-unreachable',
  'database-unavailable',
  'database-newer',
  'internal',
] as const

export type FailureCode = (typeof failureCodes)[number]

/**
 * A failure the world can cause. `message` is this layer's own sentence with the values in hand; the lower layer's
 * failure is `cause`. `at` names the input field or place at fault, where there is one.
 */
export class Failure extends Error {
  readonly code: FailureCode
  readonly at: string | undefined

  constructor(code: FailureCode, message: string, options: { cause?: unknown; at?: string } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'Failure'
    this.code = code
    this.at = options.at
  }
}

/** Says that `condition` holds unless the program itself is wrong. Nobody catches what it throws. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`invariant broken: ${message}`)
}

/** The sentences of an error and its causes, outermost first, at most eight. */
export function causeChain(error: unknown): string[] {
  const sentences: string[] = []
  for (let e: unknown = error; e !== undefined && e !== null && sentences.length < 8; ) {
    sentences.push(e instanceof Error ? e.message : inspect(e))
    e = e instanceof Error ? e.cause : undefined
  }
  return sentences
}
