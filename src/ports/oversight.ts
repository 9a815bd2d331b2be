// What watches over calls that change something: each is recorded before it begins and when it has ended, and a token that
// is bound to some hosts is held to them. What a record is kept in is not known here.
import { type Caller, hostFields, isChange, type Operation, type UserCaller } from '../contract/operation.ts'
import { pathFields } from '../contract/rest-form.ts'
import { type Schema, schemaOf } from '../lib/schema.ts'
import { Failure, type FailureCode } from '../model/failure.ts'
import type { Role, Scope } from '../model/role.ts'

/** One call as the audit tells of it. */
export type Act = {
  /** Empty when it was nobody known. */
  readonly user: string
  readonly role: Role | undefined
  readonly via: string
  readonly address: string
  readonly operation: string
  /** What it was about, without anything that could be secret. */
  readonly target: string
  readonly request: string
}

export type Oversight = {
  /** Records that a change begins, and gives what records how it ended. Throws when it cannot: then nothing may begin. */
  readonly record: (act: Act) => Promise<(outcome: 'ok' | FailureCode) => Promise<void>>
  /** Throws Failure `forbidden` unless every host that these nodesets name is within the scope. */
  readonly requireWithin: (scope: Scope, nodesets: readonly string[]) => Promise<void>
}

type Asked = { readonly name: string; readonly operation: Operation; readonly requestId: string }

type Given<T> = {
  readonly input: unknown
  readonly caller: Caller
  /** Who a stranger has shown to be. */
  readonly became?: (result: T) => { readonly name: string; readonly role: Role }
}

/** Does `work`, recorded if it changes anything, and only if the caller's scope allows it. */
export async function overseen<T>(
  oversight: Oversight | undefined,
  asked: Asked,
  { input, caller, became }: Given<T>,
  work: () => Promise<T>,
): Promise<T> {
  if (!oversight || !isChange(asked.operation)) return await work()
  const act = actOf(asked, caller, targetOf(asked.operation, input))
  // A stranger's call changes nothing before it has succeeded, and thousands of wrong ones shall not fill the audit.
  if (caller.kind === 'stranger') return await recordedAfter(oversight, act, work, became)
  const end = await oversight.record(act)
  try {
    if (caller.kind === 'user' && caller.scope) await requireScope(oversight, caller.scope, asked, input)
    const result = await work()
    await end('ok')
    return result
  } catch (error) {
    await end(error instanceof Failure ? error.code : 'internal')
    throw error
  }
}

async function recordedAfter<T>(
  oversight: Oversight,
  act: Act,
  work: () => Promise<T>,
  became: Given<T>['became'],
): Promise<T> {
  try {
    const result = await work()
    const { name: user = '', role } = became?.(result) ?? {}
    await (await oversight.record({ ...act, user, role }))('ok')
    return result
  } catch (error) {
    const code = error instanceof Failure ? error.code : 'internal'
    if (code !== 'too-many-attempts') await (await oversight.record(act))(code)
    throw error
  }
}

/** Records that a known user was refused for its role, before its input was read. */
export async function recordRefusal(
  oversight: Oversight | undefined,
  asked: Asked,
  caller: UserCaller,
  code: FailureCode,
): Promise<void> {
  await (await oversight?.record(actOf(asked, caller, '')))?.(code)
}

function actOf({ name, requestId }: Asked, caller: Caller, target: string): Act {
  const user = caller.kind === 'user' ? caller : undefined
  return {
    user: user?.name ?? '',
    role: user?.role,
    via: user?.via ?? '',
    address: caller.address,
    operation: name,
    target,
    request: requestId,
  }
}

/** What a token with a scope may change is only what names its hosts: an operation that names none is not for it. */
async function requireScope(oversight: Oversight, scope: Scope, asked: Asked, input: unknown): Promise<void> {
  const fields = hostFields(asked.operation)
  // Checked against the contract before: an object whose host fields are strings.
  const given = input as Readonly<Record<string, string | undefined>>
  const nodesets = fields.flatMap((field) => given[field] ?? [])
  if (nodesets.length === 0) {
    const what = fields.length === 0 ? 'which is about no hosts' : `unless \`${fields.join('`, `')}\` is given`
    throw new Failure('forbidden', `this token is bound to some hosts and may not do ${asked.name}, ${what}`)
  }
  await oversight.requireWithin(scope, nodesets)
}

const targetLengthMax = 1000

/**
 * What a call was about: those fields of its input that a secret cannot be in, because they are numbers, words of a closed
 * set, parts of the path, or held by a pattern.
 */
function targetOf(operation: Operation, input: unknown): string {
  const { properties = {} } = schemaOf(operation.input)
  const inPath = pathFields(operation)
  const words = Object.entries(input as Readonly<Record<string, unknown>>).flatMap(([name, value]) => {
    const schema = properties[name]
    return schema && (inPath.includes(name) || isPlain(schema)) ? [`${name}=${String(value)}`] : []
  })
  const text = words.join(' ')
  return text.length > targetLengthMax ? `${text.slice(0, targetLengthMax)}…` : text
}

function isPlain({ type, enum: words, pattern, title }: Schema): boolean {
  if (words !== undefined || type === 'integer' || type === 'number' || type === 'boolean') return true
  return type === 'string' && (pattern !== undefined || title === 'Nodeset')
}
