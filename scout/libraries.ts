// Shared libraries: a check that a trimmed tree still has every library that its programs name.
import { readdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { execa } from 'execa'

/** The libraries that programs and libraries in `root` need and `root` does not have, as `name (needed by file)`. */
export async function missingLibraries(root: string): Promise<string[]> {
  const entries = await readdir(join(root, 'usr'), { recursive: true, withFileTypes: true })
  const there = new Set(entries.map((entry) => entry.name))
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  const programs = files.filter((file) => /\/(s?bin|lib[^/]*|openssh)\/[^/]*$/.test(file) || file.includes('.so'))
  // readelf says of a script that it is no ELF file and goes on; its exit status says nothing else.
  const { stdout } = await execa('readelf', ['-d', ...programs], { reject: false, maxBuffer: 64 << 20 })
  const missing = new Set<string>()
  let file = ''
  for (const line of stdout.split('\n')) {
    if (line.startsWith('File: ')) file = line.slice('File: '.length)
    const needed = /\(NEEDED\).*\[(.*)\]/.exec(line)?.[1]
    if (needed !== undefined && !there.has(needed)) missing.add(`${needed} (needed by ${basename(file)})`)
  }
  return [...missing]
}
