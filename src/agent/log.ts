// The agent's log: every line goes to the console at once, because a machine that dies has nothing else, and the newest
// 64 KiB are kept for the failure report. Secrets that were named to it never get through.
import type { Secret } from '../lib/secret.ts'
import { causeChain } from '../model/failure.ts'

/** What a failure report may carry (contract: `log` of `reportFailure`), in UTF-8 bytes. */
export const logTailBytesMax = 64 * 1024

/** A line is cut here: a tool's output must not push everything else out of the tail. */
const lineCharactersMax = 4000

export type Log = {
  /** One line; line breaks become spaces. */
  line(text: string): void
  /** One line: what was tried, and the error's chain of causes. */
  failure(text: string, error: unknown): void
  /** From now on this secret shows as `***`. */
  hide(secret: Secret): void
  /** The newest lines, at most `logTailBytesMax` bytes. */
  tail(): string
}

/** `write` gets each line with its line break; `now` is the wall clock in milliseconds. */
export function createLog(write: (line: string) => void, now: () => number = Date.now): Log {
  const lines: string[] = []
  const hidden: string[] = []
  let bytes = 0

  const line = (text: string): void => {
    let safe = text.replaceAll(/\s*[\r\n]+\s*/g, ' ')
    for (const secret of hidden) safe = safe.replaceAll(secret, '***')
    const full = `${new Date(now()).toISOString()} ${safe.slice(0, lineCharactersMax)}\n`
    lines.push(full)
    bytes += Buffer.byteLength(full)
    while (bytes > logTailBytesMax) bytes -= Buffer.byteLength(lines.shift() ?? '')
    write(full)
  }

  return {
    line,
    failure: (text, error) => line(`${text}: ${causeChain(error).join(': ')}`),
    hide: (secret) => {
      if (secret.reveal() !== '') hidden.push(secret.reveal())
    },
    tail: () => lines.join(''),
  }
}
