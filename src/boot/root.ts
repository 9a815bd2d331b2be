// The boot folder as TFTP and HTTP see it: read only, regular files only, and no path leaves it. What the answer to a
// path is belongs to resolve.ts; this only says whether the folder holds such a file.
import { realpath, stat } from 'node:fs/promises'
import { join, sep } from 'node:path'
import type { BootContent } from '../model/boot.ts'

/** The kernel refuses longer paths (PATH_MAX of Linux); no boot file comes near it. */
const pathCharactersMax = 4096

/** What the kernel says of a path that names no file. Everything else means that we could not look. */
const absent = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG'])

/**
 * The regular file at `path`, relative to the folder `root`, as absolute path without symlinks. `undefined`: there is no
 * such file, which is also the answer to a path that is absolute, has `..`, a backslash, a NUL or a symlink that leads
 * outside. Throws when it could not look, also when `root` itself is missing.
 */
export async function readBootFile(root: string, path: string): Promise<BootContent | undefined> {
  if (!isPlain(path)) return undefined
  const folder = await realpath(root)
  try {
    const file = await realpath(join(folder, path))
    if (!file.startsWith(folder.endsWith(sep) ? folder : folder + sep)) return undefined
    const found = await stat(file)
    return found.isFile() ? { kind: 'file', path: file, sizeBytes: found.size } : undefined
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && absent.has(String(cause.code))) return undefined
    throw new Error(`could not look for ${path} in ${root}`, { cause })
  }
}

function isPlain(path: string): boolean {
  if (path === '' || path.length > pathCharactersMax || path.startsWith('/') || path.endsWith('/')) return false
  return !/[\0\\]/.test(path) && !path.split('/').includes('..')
}
