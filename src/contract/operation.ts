// How the API is written down: one entry per operation, as data. SOAP, WSDL, REST, OpenAPI, the typed client, the CLI
// and the reference pages are all derived from these entries; a new operation is one entry here and one handler.
import type { Static, TObject, TProperties } from 'typebox'
import { schemaOf } from '../lib/schema.ts'
import type { FailureCode } from '../model/failure.ts'
import type { Role, Scope } from '../model/role.ts'

/**
 * Who may call: a user of at least this role, or `boot`: who holds a boot token that arms one deployment, or `agent`: the
 * session key that registration gave out, or `anyone`. What proves it travels as `Authorization`, never in a URL.
 */
export type Access = Role | 'boot' | 'agent' | 'anyone'

export type PortName = 'control' | 'service' | 'power'

export type Operation<I extends TObject = TObject, O extends TObject = TObject> = {
  readonly summary: string
  readonly access: Access
  /** Whether a call changes anything, which the audit tells of; unless said, it does when it takes more than a viewer. */
  readonly changes?: boolean
  /** Path below `/<port>/v1`. `{field}` takes that input field; the rest are query (GET, DELETE) or JSON body. */
  readonly rest: { readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'; readonly path: string }
  readonly input: I
  readonly output: O
  /** Codes this operation may end in beside those that any call may (`commonFailures`). */
  readonly failures: readonly FailureCode[]
  /** By REST it takes a body as long as this, if that is more than any other call may have. */
  readonly bodyBytesMax?: number
  /**
   * It takes an idempotency key: called again with the key and the same input, it answers again and does nothing.
   * `recorded`: what it begins is written with its answer in one transaction, so that a call that was cut off in the middle
   * has not happened. `acts`: it acts on the world, and nobody can tell how far such a call got.
   */
  readonly once?: 'recorded' | 'acts'
}

export type Operations = Readonly<Record<string, Operation>>

/** Items without an end, each with a growing number, so that a reader who comes back says where it was. */
export type Stream = {
  readonly summary: string
  readonly access: Role
  /** Below `/<port>/v1`. */
  readonly path: string
  readonly input: TObject
  readonly item: TObject
}

/** Gives the items of a stream after `after`, or from now on, in batches as they come, until the signal aborts. */
export type StreamItems = (
  input: unknown,
  after: number | undefined,
  signal: AbortSignal,
) => AsyncIterable<readonly { readonly id: number; readonly item: unknown }[]>

export type Port<Ops extends Operations = Operations> = {
  readonly name: PortName
  readonly summary: string
  /** Target namespace of the port's WSDL: one a port, because generators merge bindings of one namespace. */
  readonly namespace: string
  readonly operations: Ops
  /** What can be followed as it happens, by REST alone: server-sent events. */
  readonly streams?: Readonly<Record<string, Stream>>
}

export type Input<Op extends Operation> = Static<Op['input']>
export type Output<Op extends Operation> = Static<Op['output']>

/** Somebody the service knows. */
export type UserCaller = {
  readonly kind: 'user'
  readonly name: string
  /** The lower one of the user's and the token's. */
  readonly role: Role
  readonly address: string
  /** What proved it, in words; without a number it was the unix socket or `admin.token`. */
  readonly via?: string
  /** The number of the token or session that proved it. */
  readonly token?: number
  /** Of the token: it changes nothing of other hosts. */
  readonly scope?: Scope
  /** The claim of a call with an idempotency key, for its handler to record its answer by. */
  readonly once?: OnceClaim
}

/** Who is calling, as the port has found out; handlers decide what they may see. */
export type Caller =
  | UserCaller
  | { readonly kind: 'bearer'; readonly token: string; readonly address: string }
  | { readonly kind: 'stranger'; readonly address: string }

/** A call with an idempotency key that is under way, and whoever runs it. */
export type OnceClaim = { readonly id: number; readonly claim: string }

/** A call that may have happened before. */
export type OnceCall = {
  readonly key: string
  /** As `control.startRollout`. */
  readonly operation: string
  readonly isRecorded: boolean
  readonly input: unknown
  readonly caller: Caller
}

/** Runs a call unless it has happened already, and gives its answer. */
export type RunOnce = (call: OnceCall, run: (caller: Caller) => Promise<unknown>) => Promise<unknown>

/** What an idempotency key may be; in REST it travels in this header, in SOAP in a header block. */
export const idempotencyKey = {
  header: 'idempotency-key',
  block: 'idempotencyKey',
  pattern: '^[!-~]{1,190}$',
  description: 'Any word of 1 to 190 printable ASCII characters without blanks; the same for each try of one call',
} as const

/** What implements a port: one function per entry. `signal` aborts when a caller in the same process has given the call up. */
export type Handlers<Ops extends Operations> = {
  readonly [Name in keyof Ops]: (
    input: Input<Ops[Name]>,
    caller: Caller,
    signal?: AbortSignal,
  ) => Promise<Output<Ops[Name]>>
}

/** `deadlineMs` bounds this call instead of the client's usual deadline. */
export type CallOptions = {
  readonly signal?: AbortSignal
  readonly deadlineMs?: number
  readonly idempotencyKey?: string
}

/** What calls a port, over the network or inside one process. */
export type PortClient<Ops extends Operations> = {
  readonly [Name in keyof Ops]: (input: Input<Ops[Name]>, options?: CallOptions) => Promise<Output<Ops[Name]>>
}

/** Failures that any call may end in. */
export const commonFailures: readonly FailureCode[] = [
  'bad-input',
  'unauthorized',
  'forbidden',
  'too-many-attempts',
  'unknown-operation',
  'too-large',
  'internal',
]

/** Types one entry, keeping its own input and output types. */
export function operation<I extends TProperties, O extends TProperties>(
  entry: Operation<TObject<I>, TObject<O>>,
): Operation<TObject<I>, TObject<O>> {
  return entry
}

/** Whether a call of this operation is one that the audit tells of. */
export function isChange({ changes, access, rest }: Operation): boolean {
  return changes ?? (rest.method !== 'GET' && (access === 'operator' || access === 'admin'))
}

/** The fields of an operation's input that name hosts. */
export function hostFields({ input }: Operation): string[] {
  const { properties = {} } = schemaOf(input)
  return Object.keys(properties).filter((name) => ['Nodeset', 'HostName'].includes(properties[name]?.title ?? ''))
}
