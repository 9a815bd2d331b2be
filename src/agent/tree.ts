// A file system that somebody else made, mounted somewhere: paths are looked up in it as its own system would, and never lead
// out of it, whatever its symbolic links say.
import { type Dirent, lstatSync, readlinkSync, type Stats } from 'node:fs'
import { open, opendir, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** As many symbolic links as Linux follows in one path. */
const linksMax = 40
/** Names of one folder that are looked at. */
const namesMax = 10_000
const overwriteBytes = 1024 * 1024

export class Tree {
  readonly #root: string

  constructor(root: string) {
    this.#root = root
  }

  /**
   * Where `path` of the tree is on this machine, links on the way followed inside the tree; undefined when there is nothing.
   * The last name is followed too unless told otherwise.
   */
  resolve(path: string, followLast = true): string | undefined {
    const names = path.split('/').filter(Boolean)
    const done: string[] = []
    let links = 0
    while (names.length > 0) {
      const name = names.shift() ?? ''
      if (name === '.') continue
      if (name === '..') {
        done.pop()
        continue
      }
      const here = join(this.#root, ...done, name)
      const seen = lstatOf(here)
      if (seen === undefined) return undefined
      if (!seen.isSymbolicLink() || (names.length === 0 && !followLast)) {
        done.push(name)
        continue
      }
      links += 1
      if (links > linksMax) return undefined
      const target = readlinkSync(here)
      if (target.startsWith('/')) done.length = 0
      names.unshift(...target.split('/').filter(Boolean))
    }
    return join(this.#root, ...done)
  }

  /** What is at `path`; undefined when nothing is. */
  stat(path: string): Stats | undefined {
    const real = this.resolve(path)
    return real === undefined ? undefined : lstatOf(real)
  }

  isFolder(path: string): boolean {
    return this.stat(path)?.isDirectory() ?? false
  }

  /** The size of the regular file at `path`, 0 when there is none. */
  sizeOf(path: string): number {
    const seen = this.stat(path)
    return seen?.isFile() ? seen.size : 0
  }

  /** The first `bytesMax` bytes of a regular file as text; undefined when there is none. */
  async read(path: string, bytesMax = 64 * 1024): Promise<string | undefined> {
    const real = this.resolve(path)
    if (real === undefined || !lstatOf(real)?.isFile()) return undefined
    const file = await open(real)
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(bytesMax), 0, bytesMax, 0)
      return buffer.toString('latin1', 0, bytesRead)
    } finally {
      await file.close()
    }
  }

  /** What is in a folder, in the order of the names; none when it is no folder. */
  async list(path: string): Promise<Dirent[]> {
    const real = this.resolve(path)
    if (real === undefined || !lstatOf(real)?.isDirectory()) return []
    const entries: Dirent[] = []
    for await (const entry of await opendir(real)) {
      entries.push(entry)
      if (entries.length >= namesMax) break
    }
    return entries.sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  /** Empties a regular file and leaves it where it is. */
  async empty(path: string): Promise<void> {
    const real = this.resolve(path)
    if (real !== undefined && lstatOf(real)?.isFile()) await truncate(real)
  }

  async write(path: string, text: string): Promise<void> {
    const real = this.resolve(path)
    if (real !== undefined) await writeFile(real, text, 'latin1')
  }

  /** Removes a file, a link or a folder with all that is in it. */
  async remove(path: string): Promise<void> {
    const real = this.resolve(path, false)
    if (real !== undefined && real !== this.#root) await rm(real, { recursive: true, force: true })
  }

  /** Overwrites a regular file with zeros, then removes it: its blocks would stay readable in the image. */
  async wipe(path: string): Promise<void> {
    const real = this.resolve(path, false)
    if (real === undefined) return
    const seen = lstatOf(real)
    if (seen?.isFile()) {
      const file = await open(real, 'r+')
      try {
        for (let at = 0; at < seen.size; at += overwriteBytes) {
          await file.write(Buffer.alloc(Math.min(overwriteBytes, seen.size - at)), 0, undefined, at)
        }
        await file.datasync()
      } finally {
        await file.close()
      }
    }
    await rm(real, { force: true })
  }
}

function lstatOf(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false })
}
