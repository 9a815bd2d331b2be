// Whether a message fits its operation: the one check that SOAP, REST and calls inside the process all pass through.
import type { TSchema } from 'typebox'
import { compileCheck, type Problem, pruned, schemaOf } from '../lib/schema.ts'
import { Failure } from '../model/failure.ts'
import type { Operation } from './operation.ts'

/** Throws Failure `bad-input` with the first field at fault as `at` and a sentence for each; else returns `value`. */
export function checkInput(operation: Operation, value: unknown): unknown {
  const problems = checkOf(operation.input)(value)
  const [first] = problems
  if (first === undefined) return value
  const message = problems.map((problem) => problem.sentence).join('; ')
  throw new Failure('bad-input', message, first.at === '' ? {} : { at: first.at })
}

/**
 * The output as it is sent: fields that the contract does not name are dropped. Throws a plain Error when a field is
 * missing or of the wrong type, which is a bug of the handler. A value that is merely longer or larger than the
 * contract says is told in `remarks` and sent, because an operator would rather see it than nothing.
 */
export function checkOutput(operation: Operation, value: unknown): { output: unknown; remarks: string[] } {
  const output = pruned(schemaOf(operation.output), value)
  const problems = checkOf(operation.output)(output)
  const broken = problems.filter((problem) => problem.kind === 'shape')
  if (broken.length > 0) throw new Error(`the answer breaks its contract: ${sentences(broken).join('; ')}`)
  return { output, remarks: sentences(problems) }
}

function sentences(problems: readonly Problem[]): string[] {
  return problems.map((problem) => problem.sentence)
}

/** Compiled at first use, because a client calls few operations in its life. */
const checks = new WeakMap<TSchema, (value: unknown) => Problem[]>()

function checkOf(type: TSchema): (value: unknown) => Problem[] {
  const check = checks.get(type) ?? compileCheck(type)
  checks.set(type, check)
  return check
}
