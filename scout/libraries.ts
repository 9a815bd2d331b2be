// Shared libraries: a check that a trimmed tree still has every library that its programs name, and one library without
// what fills it.
import { readdir, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
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

/**
 * Replaces ICU's tables of languages and encodings, 31 MB in libicudata, by empty ones (ICU's own "stubdata": a header that
 * says so). aria2 is linked to them by way of libxml2, which knows UTF-8 by itself.
 */
export async function emptyIcuData(root: string): Promise<void> {
  const library = /^libicudata\.so\.(\d+)\.\d+$/
  const entries = await readdir(join(root, 'usr/lib'), { recursive: true, withFileTypes: true })
  for (const { name, parentPath } of entries.filter((entry) => entry.isFile() && library.test(entry.name))) {
    const version = library.exec(name)?.[1] ?? ''
    const symbol = `icudt${version}_dat`
    // DataHeader and an empty table of contents, common/unicode/udata.h and ucmndata.h of ICU.
    const source = `
      .section .rodata
      .globl ${symbol}
      .type ${symbol}, %object
      .size ${symbol}, 40
      .balign 16
      ${symbol}:
      .2byte 32
      .byte 0xda, 0x27
      .2byte 20, 0
      .byte 0, 0, 2, 0
      .ascii "ToCP"
      .byte 1, 0, 0, 0, 0, 0, 0, 0
      .4byte 0, 0, 0, 0
    `
    const target = join(parentPath, name)
    const object = join(dirname(root), 'icudata.o')
    await execa('as', ['-o', object, '-'], { input: source })
    await rm(target)
    await execa('ld', ['-shared', '-soname', `libicudata.so.${version}`, '-o', target, object])
    await rm(object)
  }
}
