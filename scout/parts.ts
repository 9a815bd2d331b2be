// A cache of things that take long to make: each is a folder named by the hash of everything it is made from, appears
// whole or not at all, and is made by one of several builders that run at once.
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'

/** First 16 hex digits of the SHA-256 of the inputs, in order. */
export function hashOf(inputs: readonly (string | Uint8Array)[]): string {
  const hash = createHash('sha256')
  for (const input of inputs) hash.update(createHash('sha256').update(input).digest())
  return hash.digest('hex').slice(0, 16)
}

/** Names and contents of the files below `folder`, as inputs of `hashOf`. */
export async function contentsOf(folder: string): Promise<(string | Uint8Array)[]> {
  const inputs: (string | Uint8Array)[] = []
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  for (const file of files.sort()) inputs.push(file.slice(folder.length), await readFile(file))
  return inputs
}

/** The folder `cache/name`: as it is if it is there, else made by `make` in a temporary folder and then renamed. */
export async function part(
  cache: string,
  name: string,
  make: (folder: string) => Promise<void>,
): Promise<{ folder: string; isNew: boolean }> {
  const folder = join(cache, name)
  if (await exists(folder)) return { folder, isNew: false }
  await mkdir(cache, { recursive: true })
  const unfinished = await mkdtemp(join(cache, `.unfinished-${name}-`))
  try {
    await make(unfinished)
    // Another builder may have been faster; what it made from the same inputs is as good.
    await rename(unfinished, folder).catch(async (cause: unknown) => {
      if (!(await exists(folder))) throw new Error(`move ${unfinished} to ${folder}`, { cause })
    })
  } finally {
    await rm(unfinished, { recursive: true, force: true })
  }
  return { folder, isNew: true }
}

/** Makes `link` point to `folder`, by a relative path, in one step. */
export async function pointTo(link: string, folder: string): Promise<void> {
  const unfinished = `${link}.${process.pid}`
  await rm(unfinished, { force: true })
  await symlink(relative(dirname(link), folder), unfinished)
  await rename(unfinished, link)
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false
      throw error
    },
  )
}
