// Asking whoever sits at the terminal, or reading what a script pipes in.
import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { Failure } from '../model/failure.ts'

/** A line that must not be seen while it is typed. Without a terminal it is the first line of standard input. */
export async function askSecret(prompt: string): Promise<string> {
  const { stdin, stderr } = process
  const isTerminal = stdin.isTTY
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input: stdin, output: nowhere, terminal: isTerminal })
  if (isTerminal) stderr.write(`${prompt}: `)
  try {
    const ended = Promise.withResolvers<string>()
    lines.once('line', ended.resolve)
    lines.once('close', () => ended.resolve(''))
    const line = await ended.promise
    if (line === '') throw new Failure('bad-input', `no ${prompt} was given`)
    return line
  } finally {
    lines.close()
    if (isTerminal) stderr.write('\n')
  }
}

/** A new secret, typed twice where somebody types. */
export async function askNewSecret(prompt: string): Promise<string> {
  const secret = await askSecret(prompt)
  if (process.stdin.isTTY && (await askSecret(`${prompt}, once more`)) !== secret) {
    throw new Failure('bad-input', 'the two were not the same')
  }
  return secret
}
