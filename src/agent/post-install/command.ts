// Runs the scout's tools for the work after the images: each has a time limit, none reads from a terminal, and what a tool
// said is the cause of the failure.
import { execa } from 'execa'
import { Failure } from '../../model/failure.ts'

const commandTimeoutMs = 60_000
/** What a tool says is for a person. */
const outputBytesMax = 1024 * 1024

export type CommandOptions = {
  readonly timeoutMs?: number
  readonly input?: string
  /** Exit codes that are no failure, beside 0. */
  readonly fine?: readonly number[]
}

/** What the tool printed. Throws Failure `post-install-failed` with the sentence `what`, or the reason of `signal`. */
export async function run(
  what: string,
  [program = '', ...args]: readonly string[],
  signal: AbortSignal,
  options: CommandOptions = {},
): Promise<string> {
  const { timeoutMs = commandTimeoutMs, input, fine = [] } = options
  const result = await execa(program, args, {
    cancelSignal: signal,
    timeout: timeoutMs,
    maxBuffer: outputBytesMax,
    reject: false,
    ...(input === undefined ? { stdin: 'ignore' as const } : { input }),
  })
  signal.throwIfAborted()
  if (!result.failed || (result.exitCode !== undefined && fine.includes(result.exitCode))) return result.stdout
  const said = result.timedOut
    ? `${program} took longer than ${timeoutMs / 1000} s`
    : `${program}: ${oneLine(result.stderr || result.stdout || result.shortMessage || 'it gave no reason')}`
  throw new Failure('post-install-failed', what, { cause: new Error(said) })
}

function oneLine(text: string): string {
  return text
    .trim()
    .replaceAll(/\s*\n\s*/g, '; ')
    .slice(0, 1000)
}
