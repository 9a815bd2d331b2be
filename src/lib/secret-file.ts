// Secrets in files: read only when nobody but this program's user, and root, can read them.
import { open } from 'node:fs/promises'
import { Secret } from './secret.ts'

/** A password or token; more is not one. */
const bytesMax = 4096

/** Why a secret may not be taken from this file, with the command that mends it; undefined when it may. */
export async function secretFileProblem(path: string): Promise<string | undefined> {
  try {
    await readSecretFile(path)
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

/** The first line of the file. Throws an Error whose message names the file and what to do. */
export async function readSecretFile(path: string): Promise<Secret> {
  const [line = ''] = (await readSecretText(path, bytesMax)).reveal().split('\n')
  if (line.trim() === '') throw new Error(`${path} is empty: it must hold the secret on its first line`)
  return new Secret(line.trim())
}

/** All of the file, such as a private key. Throws an Error whose message names the file and what to do. */
export async function readSecretText(path: string, sizeBytesMax: number): Promise<Secret> {
  const file = await open(path, 'r').catch((cause: NodeJS.ErrnoException) => {
    const why = { ENOENT: 'does not exist', EACCES: 'may not be read by the user of this program' }
    throw new Error(`${path} ${why[cause.code as keyof typeof why] ?? `cannot be opened (${cause.code})`}`, { cause })
  })
  try {
    const { mode, gid, size } = await file.stat()
    // A group that this program belongs to is how root hands a secret to a service.
    const isOurGroup = process.getgroups?.().includes(gid) ?? false
    if ((mode & 0o007) !== 0 || ((mode & 0o070) !== 0 && !(isOurGroup && (mode & 0o030) === 0))) {
      throw new Error(`${path} can be read by others (mode ${(mode & 0o777).toString(8)}): chmod 0600 ${path}`)
    }
    if (size > sizeBytesMax) throw new Error(`${path} has ${size} bytes: no secret has more than ${sizeBytesMax}`)
    return new Secret(await file.readFile('utf8'))
  } finally {
    await file.close()
  }
}
