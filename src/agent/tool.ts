// Runs the programs that prepare a disk: each with a deadline, without a terminal, and with a sentence for its failure.
import { execa } from 'execa'
import { Failure } from '../model/failure.ts'

/** Writing a table or a superblock takes seconds; a disk that takes so long for it is broken. */
const toolTimeoutMs = 120_000

export type ToolOptions = {
  readonly signal: AbortSignal
  readonly timeoutMs?: number
  /** What its standard input gets; nothing unless given. */
  readonly input?: string
}

export type ToolOutput = { readonly stdout: string; readonly stderr: string }

/**
 * Runs `command` and gives what it printed. Throws Failure `disk-error` with the sentence `what`, whose cause has the
 * command and what it complained of, or the reason of `signal`.
 */
export async function runTool(what: string, command: readonly string[], options: ToolOptions): Promise<ToolOutput> {
  const [file = '', ...args] = command
  const { signal, timeoutMs = toolTimeoutMs, input } = options
  try {
    const common = { cancelSignal: signal, timeout: timeoutMs } as const
    const { stdout, stderr } = await (input === undefined
      ? execa(file, args, { ...common, stdin: 'ignore' })
      : execa(file, args, { ...common, input }))
    return { stdout, stderr }
  } catch (cause) {
    signal.throwIfAborted()
    throw new Failure('disk-error', what, { cause })
  }
}
