// The files of the new system, mounted in the scout. The image is foreign: a link in it may point anywhere. Every path here
// is walked name by name, links are followed as the new system itself would follow them, and nothing outside is reached.
// That holds while nothing else changes the tree: no program of the image runs beside it.
import type { Stats } from 'node:fs'
import { constants } from 'node:fs'
import { type FileHandle, lstat, mkdir, open, readdir, readlink, rename, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '../../model/failure.ts'

/** As the kernel counts them (path_resolution(7)). */
const linksMax = 40
const readBytesMax = 1024 * 1024

/** Who a new file belongs to and who may read it. A file that is there keeps what it has. */
export type Belonging = { readonly mode: number; readonly uid?: number; readonly gid?: number }

type Located = {
  /** In the scout's tree, without a link on the way. */
  readonly path: string
  /** Undefined when nothing is there. */
  readonly stats: Stats | undefined
}

export class TargetRoot {
  readonly path: string
  #changes = 0

  /** `path` is where the root is mounted; it must itself be free of links. */
  constructor(path: string) {
    this.path = path
  }

  /** How often something was written, made or removed. */
  get changes(): number {
    return this.#changes
  }

  /** Where `path` of the new system is in the scout's tree. The last name's link is followed unless told otherwise. */
  async locate(path: string, { follow = true }: { readonly follow?: boolean } = {}): Promise<Located> {
    const pending = namesOf(path)
    let at: string[] = []
    let stats: Stats | undefined = await lstat(this.path)
    for (let links = 0; ; ) {
      const name = pending.shift()
      if (name === undefined) return { path: join(this.path, ...at), stats }
      if (name === '..') {
        at.pop()
        stats = await statOf(join(this.path, ...at))
        continue
      }
      const full = join(this.path, ...at, name)
      stats = await statOf(full)
      if (stats?.isSymbolicLink() && (follow || pending.length > 0)) {
        if (++links > linksMax) throw problem(`${path} leads through more than ${linksMax} links`)
        const target = await readlink(full)
        if (target.startsWith('/')) at = []
        pending.unshift(...namesOf(target))
        continue
      }
      at.push(name)
    }
  }

  /** Of what `path` leads to; undefined when nothing is there. */
  async stat(path: string): Promise<Stats | undefined> {
    return (await this.locate(path)).stats
  }

  /** Whether there is something of this name, be it a link to nowhere. */
  async has(path: string): Promise<boolean> {
    return (await this.locate(path, { follow: false })).stats !== undefined
  }

  /** Names in a folder, sorted; none where there is no such folder. */
  async list(path: string): Promise<readonly string[]> {
    const { path: real, stats } = await this.locate(path)
    return stats?.isDirectory() ? (await readdir(real)).sort() : []
  }

  /** The text of a regular file; undefined when nothing is there. */
  async read(path: string): Promise<string | undefined> {
    const { path: real, stats } = await this.locate(path)
    if (stats === undefined) return undefined
    if (!stats.isFile()) throw problem(`${path} is not a file`)
    if (stats.size > readBytesMax) throw problem(`${path} has ${stats.size} bytes, more than ${readBytesMax}`)
    const file = await open(real, constants.O_RDONLY | constants.O_NOFOLLOW)
    try {
      return await file.readFile('utf8')
    } finally {
      await file.close()
    }
  }

  /** Puts `text` in the file and on the disk; the folders above it are made where they are missing. */
  async write(path: string, text: string, belonging: Belonging = { mode: 0o644 }): Promise<void> {
    const { path: real, stats } = await this.#withFolders(path)
    // Opening a pipe or a device of a foreign image could hang or write somewhere else.
    if (stats !== undefined && !stats.isFile()) throw problem(`${path} is not a file`)
    this.#changes++
    await explained(path, async () => {
      // The file is kept, not replaced: its owner, mode and security label are the image's.
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW
      const file = await open(real, flags, belonging.mode)
      try {
        if (stats === undefined) await own(file, belonging)
        await file.truncate(0)
        await file.writeFile(text)
        await file.sync()
      } finally {
        await file.close()
      }
    })
  }

  /** Makes the folder, and those above it, where they are missing. */
  async makeFolder(path: string, belonging: Belonging = { mode: 0o755 }): Promise<void> {
    const { path: real, stats } = await this.#withFolders(path)
    if (stats?.isDirectory()) return
    if (stats !== undefined) throw problem(`${path} is not a folder`)
    this.#changes++
    await explained(path, async () => {
      await mkdir(real, belonging.mode)
      const folder = await open(real, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
      try {
        await own(folder, belonging)
      } finally {
        await folder.close()
      }
    })
  }

  /** Removes a file or link itself. */
  async remove(path: string): Promise<void> {
    const { path: real, stats } = await this.locate(path, { follow: false })
    if (stats === undefined) return
    this.#changes++
    await rm(real)
  }

  /** A link at `path`; whatever file or link is there goes. */
  async link(target: string, path: string): Promise<void> {
    await this.remove(path)
    const { path: real } = await this.#withFolders(path, { follow: false })
    this.#changes++
    await explained(path, () => symlink(target, real))
  }

  /** Gives a file another name in its folder. */
  async rename(path: string, name: string): Promise<void> {
    const { path: real, stats } = await this.locate(path, { follow: false })
    if (stats === undefined) throw problem(`${path} is not there`)
    this.#changes++
    await explained(path, () => rename(real, join(real, '..', name)))
  }

  /** Locates `path` after making the folders above it. */
  async #withFolders(path: string, options: { readonly follow?: boolean } = {}): Promise<Located> {
    const above = namesOf(path).slice(0, -1)
    if (above.length > 0) {
      const { stats } = await this.locate(above.join('/'))
      if (stats === undefined) await this.makeFolder(above.join('/'))
      else if (!stats.isDirectory()) throw problem(`/${above.join('/')} is not a folder`)
    }
    const located = await this.locate(path, options)
    if (located.stats !== undefined) return located
    // A link may lead to a folder that is not there: /etc/resolv.conf often does.
    const parent = await statOf(join(located.path, '..'))
    if (parent?.isDirectory()) return located
    throw problem(`${path} is a link into a folder that is not there`)
  }
}

function namesOf(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.')
}

async function statOf(path: string): Promise<Stats | undefined> {
  return await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    throw error
  })
}

async function own(file: FileHandle, { mode, uid, gid }: Belonging): Promise<void> {
  if (uid !== undefined && gid !== undefined) await file.chown(uid, gid)
  // The mode of open(2) and mkdir(2) is less the umask.
  await file.chmod(mode)
}

const reasons: Partial<Record<string, string>> = {
  ENOSPC: 'the file system is full',
  EDQUOT: 'the quota of the file system is used up',
  EROFS: 'the file system is read-only',
  EPERM: 'the file system does not permit it (an immutable file?)',
}

async function explained(path: string, write: () => Promise<unknown>): Promise<void> {
  try {
    await write()
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? ''
    throw problem(`${path} of the new system cannot be written: ${reasons[code] ?? code}`, cause)
  }
}

function problem(message: string, cause?: unknown): Failure {
  return new Failure('post-install-failed', message, cause === undefined ? {} : { cause })
}
