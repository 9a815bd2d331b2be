// How the API is written down: one entry per operation, as data. SOAP, WSDL, REST, OpenAPI, the typed client, the CLI
// and the reference pages are all derived from these entries; a new operation is one entry here and one handler.
import type { Static, TObject, TProperties } from 'typebox'
import type { FailureCode } from '../model/failure.ts'

/** What a user may do: `viewer` reads, `operator` also deploys, switches and publishes, `admin` also decides what there is. */
export const roles = ['viewer', 'operator', 'admin'] as const
export type Role = (typeof roles)[number]

/**
 * Who may call: a user of at least this role, or `boot`: who holds a boot token that arms one deployment, or `agent`: the
 * session key that registration gave out. All travel as `Authorization: Bearer`, never in a URL or a message.
 */
export type Access = Role | 'boot' | 'agent'

/** Whether a user of `role` may do what takes at least `least`. */
export function mayAct(role: Role, least: Role): boolean {
  return roles.indexOf(role) >= roles.indexOf(least)
}

export type PortName = 'control' | 'service' | 'power'

export type Operation<I extends TObject = TObject, O extends TObject = TObject> = {
  readonly summary: string
  readonly access: Access
  /** Path below `/<port>/v1`. `{field}` takes that input field; the rest are query (GET, DELETE) or JSON body. */
  readonly rest: { readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'; readonly path: string }
  readonly input: I
  readonly output: O
  /** Codes this operation may end in beside those that any call may (`commonFailures`). */
  readonly failures: readonly FailureCode[]
}

export type Operations = Readonly<Record<string, Operation>>

export type Port<Ops extends Operations = Operations> = {
  readonly name: PortName
  readonly summary: string
  /** Target namespace of the port's WSDL: one a port, because generators merge bindings of one namespace. */
  readonly namespace: string
  readonly operations: Ops
}

export type Input<Op extends Operation> = Static<Op['input']>
export type Output<Op extends Operation> = Static<Op['output']>

/** Who is calling, as the port has found out; handlers decide what they may see. */
export type Caller =
  | { readonly kind: 'user'; readonly name: string; readonly role: Role; readonly address: string }
  | { readonly kind: 'bearer'; readonly token: string; readonly address: string }

/** What implements a port: one function per entry. */
export type Handlers<Ops extends Operations> = {
  readonly [Name in keyof Ops]: (input: Input<Ops[Name]>, caller: Caller) => Promise<Output<Ops[Name]>>
}

/** `deadlineMs` bounds this call instead of the client's usual deadline. */
export type CallOptions = { readonly signal?: AbortSignal; readonly deadlineMs?: number }

/** What calls a port, over the network or inside one process. */
export type PortClient<Ops extends Operations> = {
  readonly [Name in keyof Ops]: (input: Input<Ops[Name]>, options?: CallOptions) => Promise<Output<Ops[Name]>>
}

/** Failures that any call may end in. */
export const commonFailures: readonly FailureCode[] = [
  'bad-input',
  'unauthorized',
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
