// What `hades login` leaves for the commands after it: where the service is, how it is known, and the token. In a file of
// the user's own that nobody else may read.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { Failure } from '../model/failure.ts'

export type SavedLogin = {
  readonly server: string
  readonly token: string
  readonly ca?: string | undefined
  readonly fingerprint?: string | undefined
}

function file(): string {
  return join(process.env.XDG_CONFIG_HOME ?? join(homedir(), '.config'), 'hades', 'login.json')
}

/** Undefined when nobody has logged in. Failure `bad-input` when the file holds something else. */
export function savedLogin(): SavedLogin | undefined {
  let text: string
  try {
    text = readFileSync(file(), 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new Failure('bad-input', `the saved login ${file()} cannot be read`, { cause })
  }
  try {
    const saved = JSON.parse(text) as Partial<SavedLogin>
    if (typeof saved.server === 'string' && typeof saved.token === 'string') return saved as SavedLogin
  } catch {
    // The parser's own sentence may quote the token.
  }
  throw new Failure('bad-input', `the file ${file()} holds no login: remove it, and log in again`)
}

export function saveLogin(login: SavedLogin): void {
  mkdirSync(dirname(file()), { recursive: true, mode: 0o700 })
  // A file that is there keeps its mode: a new one takes its place.
  rmSync(file(), { force: true })
  writeFileSync(file(), `${JSON.stringify(login)}\n`, { mode: 0o600, flag: 'wx' })
}

export function forgetLogin(): void {
  rmSync(file(), { force: true })
}
