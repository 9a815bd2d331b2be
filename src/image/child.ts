// Programs that read what a stranger made (decompressors, qemu) run as children that can do little harm: bounded memory
// and CPU, no file written unless that is what they are for, no privileges gained, no environment of ours, and dead as soon as we are.
import { type ChildProcess, spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Failure, invariant } from '../model/failure.ts'

export type Limits = {
  readonly memoryBytes: number
  readonly cpuSeconds: number
  /** The longest file that the child may write; none unless given. */
  readonly fileBytes?: number
}

/** How a child ended; `words` is the last line that it wrote to standard error. */
export type Ending = { readonly status: number | null; readonly signal: string | null; readonly words: string }

/** Standard error beyond this is thrown away, in characters. */
const wordsMax = 4096

/** A running child. Must be closed. */
export class Child {
  readonly #process: ChildProcess
  readonly #name: string
  /** Never rejects. Resolves when the child is gone and its output was read or given up. */
  readonly ended: Promise<Ending>

  constructor(command: readonly [string, ...string[]], limits: Limits, input: 'pipe' | 'ignore' = 'ignore') {
    this.#name = command[0]
    // Without the death signal a child outlives a parent that was killed, holding its files.
    const files = `--fsize=${limits.fileBytes ?? 0}`
    const guard = ['--no-new-privs', '--pdeathsig', 'KILL', 'prlimit', files, '--core=0']
    const bounds = [`--as=${limits.memoryBytes}`, `--cpu=${limits.cpuSeconds}`, '--']
    this.#process = spawn('setpriv', [...guard, ...bounds, ...command], {
      stdio: [input, 'pipe', 'pipe'],
      env: { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C' },
    })
    let words = ''
    this.#process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      words = (words + text).slice(-wordsMax)
    })
    // The child may close its input early; its ending tells why.
    this.#process.stdin?.on('error', () => {})
    this.ended = new Promise((resolve) => {
      this.#process.once('error', (error) => resolve({ status: 127, signal: null, words: error.message }))
      this.#process.once('close', (status, signal) => resolve({ status, signal, words: lastLine(words) }))
    })
  }

  get output(): Readable {
    invariant(this.#process.stdout, 'a child has its output piped')
    return this.#process.stdout
  }

  /** Passes `input` to the child's standard input and closes it. Settles when that ended, also because the child did. */
  async feed(input: AsyncIterable<Buffer>): Promise<void> {
    invariant(this.#process.stdin, 'the child was started with input')
    await pipeline(input, this.#process.stdin).catch(() => {})
  }

  kill(): void {
    this.#process.kill('SIGKILL')
  }

  /** Throws unless the child ended with one of the statuses `fine`, with its words. */
  async success(fine: readonly number[] = [0]): Promise<void> {
    const { status, signal, words } = await this.ended
    if (status !== null && fine.includes(status)) return
    if (status === 127) {
      throw new Failure('internal', `${this.#name} cannot be started on the server`, { cause: new Error(words) })
    }
    const how = signal === null ? `status ${status}` : `signal ${signal}`
    throw new Error(words === '' ? `${this.#name} ended with ${how}` : `${words} (${how})`)
  }

  /** Kills the child if it still runs and waits until it is gone. */
  async close(): Promise<void> {
    this.kill()
    this.#process.stdout?.destroy()
    this.#process.stderr?.destroy()
    this.#process.stdin?.destroy()
    await this.ended
  }
}

export type OutputOptions = {
  readonly limits: Limits
  readonly input?: AsyncIterable<Buffer>
  /** The child is killed when it gives no byte for so long while we wait for one. */
  readonly stallMs?: number
  readonly fine?: readonly number[]
  readonly signal?: AbortSignal
}

/**
 * Gives what `command` writes to standard output, as it comes. Throws the input's error if that failed, else an Error
 * with the command's words if it did not succeed. The child is gone when the generator has ended, however it did.
 */
export async function* outputOf(
  command: readonly [string, ...string[]],
  options: OutputOptions,
): AsyncGenerator<Buffer, void, void> {
  const { input, stallMs, signal } = options
  signal?.throwIfAborted()
  const child = new Child(command, options.limits, input === undefined ? 'ignore' : 'pipe')
  let inputError: { readonly error: unknown } | undefined
  let stalled: NodeJS.Timeout | undefined
  let hasStalled = false
  const watchStall = () => {
    if (stallMs === undefined) return
    stalled = setTimeout(() => {
      hasStalled = true
      child.kill()
    }, stallMs)
  }
  const onAbort = () => child.kill()
  signal?.addEventListener('abort', onAbort)
  try {
    if (input !== undefined) {
      // Its only failures are the input's, kept here, and the child's, told by its ending.
      void child.feed(watched(input, (error) => (inputError = { error })))
    }
    watchStall()
    for await (const chunk of child.output) {
      clearTimeout(stalled)
      yield chunk
      watchStall()
    }
    await child.ended
    if (inputError !== undefined) throw inputError.error
    signal?.throwIfAborted()
    if (hasStalled) throw new Error(`${command[0]} gave nothing for ${stallMs} ms`)
    await child.success(options.fine)
  } finally {
    clearTimeout(stalled)
    signal?.removeEventListener('abort', onAbort)
    await child.close()
  }
}

async function* watched(input: AsyncIterable<Buffer>, onError: (error: unknown) => void): AsyncGenerator<Buffer> {
  try {
    yield* input
  } catch (error) {
    onError(error)
    throw error
  }
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1)?.trim() ?? ''
}
