// The service's data folder: database, image library, the keys that seal secrets and sign images, the control token. Made at first start,
// for its owner alone.
import { randomBytes } from 'node:crypto'
import { link, mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { Keyring } from '../lib/seal.ts'
import { Secret } from '../lib/secret.ts'
import { SigningKey } from '../lib/signing.ts'

export type DataFolder = {
  readonly path: string
  readonly database: string
  readonly library: string
  /** The folders of netboot profiles. */
  readonly netboot: string
  readonly socket: string
  /** The folder of the certificates. */
  readonly tls: string
  readonly tokenFile: string
  readonly keyring: Keyring
  /** Puts these keys in place of those of the file that `keyring` came from; the file is whole at each moment. */
  readonly keepKeys: (keys: readonly Uint8Array[]) => Promise<void>
  readonly signingKey: SigningKey
  /** The signing key was made just now: what there was before is signed by none. */
  readonly isSigningKeyNew: boolean
  readonly adminToken: Secret
  /** Names the process that works on this folder, the same after a restart. */
  readonly owner: string
}

/** Opens the folder, and makes what is missing in it. */
export async function openDataFolder(folder: string): Promise<DataFolder> {
  const path = resolve(folder)
  await mkdir(join(path, 'netboot'), { recursive: true, mode: 0o700 })
  const keyFile = join(path, 'secrets.key')
  const keys = (await readOrMake(keyFile, () => Keyring.randomKey().toString('base64'))).split('\n')
  const [current = Buffer.of(), ...replaced] = keys.map((key) => Buffer.from(key, 'base64'))
  let isSigningKeyNew = false
  const seed = await readOrMake(join(path, 'signing.key'), () => {
    isSigningKeyNew = true
    return SigningKey.randomSeed().toString('base64')
  })
  const tokenFile = join(path, 'admin.token')
  return {
    path,
    database: join(path, 'hades.db'),
    library: join(path, 'images'),
    netboot: join(path, 'netboot'),
    socket: join(path, 'control.sock'),
    tls: join(path, 'tls'),
    tokenFile,
    keyring: new Keyring(current, ...replaced),
    keepKeys: async (kept) => {
      await replaceFile(keyFile, kept.map((key) => Buffer.from(key).toString('base64')).join('\n'))
    },
    signingKey: new SigningKey(Buffer.from(seed, 'base64')),
    isSigningKeyNew,
    adminToken: new Secret(await readOrMake(tokenFile, () => randomBytes(24).toString('base64url'))),
    owner: `${hostname()}:${path}`,
  }
}

/** The file's text; a new file is whole or not there, whoever is killed meanwhile. */
async function readOrMake(file: string, make: () => string): Promise<string> {
  const read = async (): Promise<string> => (await readFile(file, 'utf8')).trim()
  try {
    return await read()
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
  }
  const draft = `${file}.${randomBytes(6).toString('hex')}`
  try {
    await writeFile(draft, `${make()}\n`, { mode: 0o600, flush: true })
    await link(draft, file).catch((error: unknown) => {
      // Another process was first: its file counts.
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
    })
  } finally {
    await rm(draft, { force: true })
  }
  return await read()
}

/** Puts `text` in place of a file's, durable before it returns; the file is the old one or the new one, never a part. */
async function replaceFile(file: string, text: string): Promise<void> {
  const draft = `${file}.${randomBytes(6).toString('hex')}`
  try {
    await writeFile(draft, `${text}\n`, { mode: 0o600, flush: true })
    await rename(draft, file)
  } finally {
    await rm(draft, { force: true })
  }
  const folder = await open(dirname(file))
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
