// Kernel modules: choosing some of a kernel's and everything they need.
import { copyFile, mkdir, readdir, readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { execa } from 'execa'

/**
 * Copies the modules of these names, with those they depend on, from `kernel/lib/modules/<release>` to the same place
 * below `tree` and indexes them there. Throws when the kernel has no module of one of the names.
 */
export async function copyModules(kernel: string, tree: string, names: readonly string[]): Promise<void> {
  const [release] = await readdir(join(kernel, 'lib/modules'))
  if (release === undefined) throw new Error(`no modules in ${kernel}`)
  const from = join(kernel, 'lib/modules', release)
  const to = join(tree, 'lib/modules', release)
  const needs = readDependencies(await readFile(join(from, 'modules.dep'), 'utf8'))
  for (const path of closure(needs, names)) {
    await mkdir(dirname(join(to, path)), { recursive: true })
    await copyFile(join(from, path), join(to, path))
  }
  for (const name of ['modules.builtin', 'modules.builtin.modinfo', 'modules.order']) {
    await copyFile(join(from, name), join(to, name))
  }
  await execa('depmod', ['-b', tree, release])
}

/** modules.dep: `path: path path ...` a line, each path with everything it needs, direct or not. */
function readDependencies(text: string): Map<string, readonly string[]> {
  const needs = new Map<string, readonly string[]>()
  for (const line of text.split('\n')) {
    const [path, list] = line.split(':')
    if (path && list !== undefined) needs.set(path, list.split(' ').filter(Boolean))
  }
  return needs
}

function closure(needs: ReadonlyMap<string, readonly string[]>, names: readonly string[]): Set<string> {
  const pathOf = new Map([...needs.keys()].map((path) => [basename(path, '.ko'), path]))
  const chosen = new Set<string>()
  for (const name of names) {
    const path = pathOf.get(name)
    if (path === undefined) throw new Error(`this kernel has no module ${name}: correct scout/contents.ts`)
    chosen.add(path)
    for (const other of needs.get(path) ?? []) chosen.add(other)
  }
  return chosen
}
