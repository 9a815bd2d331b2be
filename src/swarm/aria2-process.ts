// One aria2c of our own (Debian's, 1.36) and its JSON-RPC over loopback. Everything secret is in a file that only its owner
// reads: an argument list is seen by everybody. https://aria2.github.io/manual/en/html/aria2c.html#rpc-interface
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from '../lib/free-port.ts'

/** From its start to its first answer; it takes a tenth of a second. */
const startMsMax = 10_000
const startPollMs = 50
/** Another program may take the port between our look and its start. */
const startsMax = 3
const callMsMax = 10_000
/** A bitfield of a hundred thousand pieces, and peers. */
const answerBytesMax = 4 * 1024 * 1024
/** It says farewell to the tracker; then it is ended whether or not. */
const farewellMs = 2000
/** What it wrote last stands in our errors. */
const wordsMax = 1000

export type Aria2Options = Readonly<Record<string, string | number | boolean>>

/**
 * Starts aria2c in `folder`, where its configuration goes too, with `options` by their long names. Throws an Error with its
 * own words when it does not start.
 */
export async function startAria2Process(folder: string, options: Aria2Options): Promise<Aria2Process> {
  for (let start = 1; ; start++) {
    const started = await Aria2Process.start(folder, options).catch((error: unknown) => {
      if (start >= startsMax) throw error
      return undefined
    })
    if (started !== undefined) return started
  }
}

export class Aria2Process {
  /** Resolves when the process is gone, with how that came. */
  readonly ended: Promise<string>
  readonly #child: ChildProcess
  readonly #port: number
  readonly #secret: string
  #words = ''
  #end: string | undefined

  private constructor(child: ChildProcess, port: number, secret: string) {
    this.#child = child
    this.#port = port
    this.#secret = secret
    const { promise, resolve } = Promise.withResolvers<string>()
    this.ended = promise
    const end = (how: string) => {
      this.#end ??= how
      resolve(how)
    }
    child.on('error', (error) => end(error.message))
    child.on('exit', (code, signal) => {
      const words = this.#words.replaceAll(/\s+/g, ' ').trim()
      end(`aria2c ended with ${signal ?? `status ${code}`}${words === '' ? '' : `: ${words}`}`)
    })
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        this.#words = (this.#words + chunk.toString('utf8')).slice(-wordsMax)
      })
    }
  }

  static async start(folder: string, options: Aria2Options): Promise<Aria2Process> {
    const [port, secret] = [await freePort(), randomBytes(24).toString('hex')]
    const lines = Object.entries({
      'enable-rpc': true,
      'rpc-listen-all': false,
      'rpc-listen-port': port,
      'rpc-secret': secret,
      // A torrent of a hundred thousand pieces, in base64.
      'rpc-max-request-size': '40M',
      'stop-with-process': process.pid,
      'summary-interval': 0,
      'console-log-level': 'warn',
      'show-console-readout': false,
      dir: folder,
      ...options,
    }).map(([name, value]) => `${name}=${value}`)
    if (lines.some((line) => /[\r\n]/.test(line))) throw new Error('an option of aria2 holds a line break')
    const configuration = join(folder, 'aria2.conf')
    await writeFile(configuration, `${lines.join('\n')}\n`, { mode: 0o600 })
    const child = spawn('aria2c', [`--conf-path=${configuration}`], { stdio: ['ignore', 'pipe', 'pipe'] })
    const started = new Aria2Process(child, port, secret)
    try {
      await started.#answers()
    } catch (error) {
      await started.close()
      throw error
    }
    return started
  }

  /** Why there is no process any more; undefined while there is one. */
  get end(): string | undefined {
    return this.#end
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  /** Calls `aria2.<method>`. Throws an Error with aria2's words, or because it does not answer. */
  async call(method: string, ...parameters: readonly unknown[]): Promise<unknown> {
    const question = {
      jsonrpc: '2.0',
      id: '1',
      method: `aria2.${method}`,
      params: [`token:${this.#secret}`, ...parameters],
    }
    const answer: unknown = JSON.parse(await this.#post(JSON.stringify(question)))
    if (!isRecord(answer)) throw new Error(`aria2 answered ${method} with no object`)
    if (isRecord(answer.error)) throw new Error(`aria2 refused ${method}: ${String(answer.error.message)}`)
    return answer.result
  }

  /** Ends the process, in seconds. Never throws. */
  async close(): Promise<void> {
    if (this.#end !== undefined) return
    this.#child.kill('SIGTERM')
    const kill = setTimeout(() => this.#child.kill('SIGKILL'), farewellMs)
    await this.ended
    clearTimeout(kill)
  }

  async #answers(): Promise<void> {
    const until = performance.now() + startMsMax
    for (;;) {
      // With a secret of our own an answer says that it is our process, not another that took the port.
      const problem = await this.call('getVersion').then(
        () => undefined,
        (error: unknown) => error,
      )
      if (this.#end !== undefined) throw new Error(`aria2c did not start: ${this.#end}`)
      if (problem === undefined) return
      if (performance.now() > until) throw new Error('aria2c does not answer', { cause: problem })
      await delay(startPollMs)
    }
  }

  #post(body: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const signal = AbortSignal.timeout(callMsMax)
      const asked = request({ host: '127.0.0.1', port: this.#port, path: '/jsonrpc', method: 'POST', signal })
      asked.on('error', reject)
      asked.on('response', (answer) => {
        const chunks: Buffer[] = []
        let received = 0
        answer.on('data', (chunk: Buffer) => {
          received += chunk.length
          if (received > answerBytesMax) answer.destroy(new Error(`aria2 answered more than ${answerBytesMax} bytes`))
          chunks.push(chunk)
        })
        answer.on('error', reject)
        answer.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')))
      })
      asked.end(body)
    })
  }
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
