// Which kernel the new system would start, with which initial RAM disks and arguments: as its own boot loader is told, read
// from GRUB's configuration or from entries of the Boot Loader Specification. Reads files; starts nothing.
import type { TargetRoot } from './target-root.ts'

/** Paths in the new system. */
export type Kernel = {
  readonly image: string
  readonly initrds: readonly string[]
  readonly commandLine: string
  /** Where it was found. */
  readonly source: string
}

const grubConfigs = ['/boot/grub/grub.cfg', '/boot/grub2/grub.cfg']
const grubEnvironments = ['/boot/grub/grubenv', '/boot/grub2/grubenv']
const entryFolders = ['/boot/loader/entries', '/efi/loader/entries', '/boot/efi/loader/entries']
/** Where the paths of a boot loader begin: it knows file systems, not mount points. */
const loaderRoots = ['', '/boot', '/boot/efi', '/efi']

/** The kernel, or in words why none was found. */
export async function findKernel(tree: TargetRoot): Promise<Kernel | string> {
  const variables = await readGrubEnvironment(tree)
  const problems: string[] = []
  for (const path of grubConfigs) {
    const text = await tree.read(path)
    if (text === undefined) continue
    const entry = chooseEntry(parseGrub(text, variables))
    const result = entry === undefined ? 'has no entry that starts Linux' : await toKernel(tree, entry, path)
    if (typeof result !== 'string') return result
    problems.push(`${path} ${result}`)
  }
  for (const folder of entryFolders) {
    const entries: [name: string, entry: LinuxEntry][] = []
    for (const name of (await tree.list(folder)).filter((name) => name.endsWith('.conf'))) {
      const entry = parseLoaderEntry((await tree.read(`${folder}/${name}`)) ?? '', variables)
      if (entry !== undefined) entries.push([name.slice(0, -'.conf'.length), entry])
    }
    const saved = entries.find(([name]) => name === variables.get('saved_entry'))
    // As GRUB and systemd-boot sort them: the newest version first.
    const [newest] = entries.sort(([a], [b]) => b.localeCompare(a, 'en', { numeric: true }))
    const chosen = saved ?? newest
    if (chosen === undefined) continue
    const result = await toKernel(tree, chosen[1], `${folder}/${chosen[0]}.conf`)
    if (typeof result !== 'string') return result
    problems.push(`${folder} ${result}`)
  }
  const where = [...grubConfigs, ...entryFolders].join(', ')
  return problems.length > 0 ? problems.join('; ') : `there is no boot menu: none of ${where}`
}

/** One entry that starts Linux, with paths as the boot loader reads them. */
export type LinuxEntry = {
  readonly title: string
  /** What a menu calls it beside its title, where it does. */
  readonly id?: string | undefined
  readonly image: string
  readonly initrds: readonly string[]
  readonly commandLine: string
}

export type GrubMenu = { readonly entries: readonly LinuxEntry[]; readonly wanted: string | undefined }

/**
 * Reads what matters of a grub.cfg: `set`, `menuentry` and `submenu`, and in an entry `linux` and `initrd`. Conditions are
 * not evaluated: of a variable that is set more than once the last counts, except `default`, of which the first literal
 * does (later ones are for a boot that failed). Entries are numbered as GRUB does, those of submenus in their place.
 */
export function parseGrub(text: string, environment: ReadonlyMap<string, string>): GrubMenu {
  const variables = new Map(environment)
  const entries: LinuxEntry[] = []
  let wanted: string | undefined
  let open: { title: string; id?: string; image?: string; commandLine: string; initrds: string[] } | undefined
  for (const line of text.split('\n')) {
    const [command = '', ...words] = splitWords(line)
    const expand = (word: string) => expandVariables(word, variables)
    if (command === 'set') {
      const [, name = '', value = ''] = /^([A-Za-z_]\w*)=(.*)$/.exec(words[0] ?? '') ?? []
      if (name === 'default') wanted ??= expand(value) || undefined
      else if (name !== '') variables.set(name, expand(value))
    } else if (command === 'menuentry') {
      const id = words[words.findIndex((word) => word === '--id' || word === '$menuentry_id_option') + 1]
      open = {
        title: words[0] ?? '',
        ...(id === undefined || id === words[0] ? {} : { id }),
        commandLine: '',
        initrds: [],
      }
    } else if (open !== undefined && /^linux(16|efi)?$/.test(command)) {
      const [image = '', ...args] = words.map(expand).flatMap((word) => word.split(' ').filter((part) => part !== ''))
      open = { ...open, image, commandLine: args.join(' ') }
    } else if (open !== undefined && /^initrd(16|efi)?$/.test(command)) open.initrds.push(...words.map(expand))
    else if (command === '}' && open !== undefined) {
      const { image, ...entry } = open
      entries.push({ ...entry, image: image ?? '' })
      open = undefined
    }
  }
  return { entries, wanted }
}

/** The default entry by number or title, else the first; entries that start no Linux only count. */
function chooseEntry({ entries, wanted }: GrubMenu): LinuxEntry | undefined {
  // `1>2` is the third of the submenu that comes second; menus put the same kernels there again.
  const name = wanted?.split('>').at(-1)
  const named = entries.find(({ title, id }) => name !== undefined && (title === name || id === name))
  const numbered = wanted !== undefined && /^\d+$/.test(wanted) ? entries[Number(wanted)] : undefined
  const chosen = named ?? numbered
  if (chosen !== undefined && chosen.image !== '') return chosen
  return entries.find(({ image }) => image !== '')
}

/** Reads an entry of the Boot Loader Specification, type 1. */
export function parseLoaderEntry(text: string, variables: ReadonlyMap<string, string>): LinuxEntry | undefined {
  const values = (key: string) =>
    [...text.matchAll(new RegExp(`^${key}[ \\t]+(.+)$`, 'gm'))].map(([, value = '']) => value.trim())
  const [image] = values('linux')
  if (image === undefined) return undefined
  const expand = (value: string) => expandVariables(value, variables).trim()
  const initrds = values('initrd')
    .flatMap((value) => expand(value).split(/\s+/))
    .filter((path) => path !== '')
  return { title: values('title')[0] ?? '', image, initrds, commandLine: values('options').map(expand).join(' ') }
}

async function readGrubEnvironment(tree: TargetRoot): Promise<ReadonlyMap<string, string>> {
  const variables = new Map<string, string>()
  for (const path of grubEnvironments) {
    for (const line of ((await tree.read(path)) ?? '').split('\n')) {
      const [, name, value] = /^([A-Za-z_]\w*)=(.*)$/.exec(line) ?? []
      if (name !== undefined && value !== undefined) variables.set(name, value)
    }
  }
  return variables
}

/** An unset variable is empty, as in GRUB. */
function expandVariables(text: string, variables: ReadonlyMap<string, string>): string {
  return text.replaceAll(/\$(?:\{(\w+)\}|(\w+))/g, (_, braced: string | undefined, plain: string | undefined) => {
    return variables.get(braced ?? plain ?? '') ?? ''
  })
}

/** Words of a line of GRUB's language; quotes go, `#` begins a comment. */
function splitWords(line: string): string[] {
  const words: string[] = []
  for (const [word] of line.matchAll(/(?:"[^"]*"|'[^']*'|[^\s"'])+/g)) {
    if (word.startsWith('#')) break
    words.push(word.replaceAll(/"([^"]*)"|'([^']*)'/g, (_, double?: string, single?: string) => double ?? single ?? ''))
  }
  return words
}

async function toKernel(tree: TargetRoot, entry: LinuxEntry, source: string): Promise<Kernel | string> {
  const image = await pathOf(tree, entry.image)
  if (image === undefined) return `names the kernel ${entry.image}, which is not there`
  const initrds: string[] = []
  for (const name of entry.initrds) {
    const initrd = await pathOf(tree, name)
    if (initrd === undefined) return `names the initial RAM disk ${name}, which is not there`
    initrds.push(initrd)
  }
  return { image, initrds, commandLine: entry.commandLine, source }
}

/** Where a path of the boot loader is in the system: its file system may be mounted at /boot, or be a subvolume. */
async function pathOf(tree: TargetRoot, name: string): Promise<string | undefined> {
  const plain = name.replace(/^\([^)]*\)/, '')
  const inSubvolume = plain.replace(/^\/[^/]+(?=\/)/, '')
  for (const path of [...loaderRoots.map((root) => root + plain), inSubvolume]) {
    if ((await tree.stat(path))?.isFile()) return path
  }
  return undefined
}
