// Lines that are written over while something goes on. On anything that is no terminal it writes nothing: the caller then
// prints plain lines for what matters.
import { stripVTControlCharacters } from 'node:util'
import stringWidth from 'string-width'

export class Progress implements Disposable {
  readonly #stream: NodeJS.WriteStream
  #shown = 0

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream
  }

  get isLive(): boolean {
    return this.#stream.isTTY
  }

  /** Replaces what was shown by `lines`, cut to the terminal. */
  show(lines: readonly string[]): void {
    if (!this.isLive) return
    const columns = this.#stream.columns || 80
    const rows = Math.max(1, (this.#stream.rows || 24) - 1)
    const fitting = lines.slice(0, rows).map((line) => cut(line, columns - 1))
    this.#stream.write(`${this.#back()}${fitting.map((line) => `\u001b[2K${line}\n`).join('')}\u001b[J`)
    this.#shown = fitting.length
  }

  /** Writes a line above what is shown, to stay. */
  note(line: string): void {
    this.#stream.write(this.isLive ? `${this.#back()}\u001b[J${line}\n` : `${line}\n`)
    this.#shown = 0
  }

  /** Takes away what is shown. */
  [Symbol.dispose](): void {
    if (this.isLive) this.#stream.write(`${this.#back()}\u001b[J`)
    this.#shown = 0
  }

  #back(): string {
    return this.#shown > 0 ? `\u001b[${this.#shown}A\r` : ''
  }
}

function cut(line: string, columns: number): string {
  if (stringWidth(line) <= columns) return line
  let short = stripVTControlCharacters(line)
  while (stringWidth(short) > columns - 1) short = short.slice(0, -1)
  return `${short}…`
}
