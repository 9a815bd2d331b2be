// Builds the Debian packages from this folder and its node_modules, without a network: `build/deb/hades_<version>_<arch>.deb` with
// the program and the pinned Node, and `hades-scout_...` with the scout and the loaders when they have been built. Needs no root.
//   node packaging/build.ts [--out build/deb]
import { chmod, cp, lstat, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { gzipSync } from 'node:zlib'
import { execa } from 'execa'
import manifest from '../package.json' with { type: 'json' }
import { completionScripts, shells } from '../src/cli/completion-scripts.ts'
import { exampleFile } from '../src/main/config-cli.ts'

const root = resolve(import.meta.dirname, '..')
const own = join(root, 'packaging')
const { values } = parseArgs({ options: { out: { type: 'string', default: join(root, 'build/deb') } } })
const out = resolve(values.out)

/** What the program starts or links to. */
const depends = [
  'libc6',
  'libstdc++6',
  'libatomic1',
  'init-system-helpers',
  'systemd',
  'util-linux',
  'iproute2',
  'ipmitool',
  'openssl',
  'qemu-utils',
]
/** What only some sources of images need. */
const recommends = ['partclone', 'fdisk', 'bzip2', 'xz-utils', 'zstd', 'hades-scout']

/** Of a package's files, those that only its developers read. */
const developers = /\.(test|conformance)\.ts$|\/testdata(\/|$)|-testing\.ts$|\.map$|\.d\.[cm]?ts$/

type Control = {
  readonly name: string
  readonly architecture: string
  readonly lines: readonly string[]
  readonly text: string
}

const architecture = (await execa('dpkg', ['--print-architecture'])).stdout
await mkdir(out, { recursive: true })
const staging = await mkdtemp(join(tmpdir(), 'hades-deb-'))
try {
  await buildProgram(join(staging, 'hades'))
  await buildScout(join(staging, 'hades-scout'))
} finally {
  await rm(staging, { recursive: true, force: true })
}

async function buildProgram(tree: string): Promise<void> {
  const program = join(tree, 'usr/lib/hades')
  const put = (from: string, to: string) => copy(join(root, from), join(program, to))
  for (const name of ['bin', 'src', 'package.json']) await put(name, name)
  for (const folder of await productionModules()) await put(relative(root, folder), relative(root, folder))
  await nodeProgram(program)
  await mkdir(join(tree, 'usr/bin'), { recursive: true })
  await symlink('../lib/hades/bin/hades', join(tree, 'usr/bin/hades'))

  const place = async (from: string, to: string): Promise<void> => {
    await mkdir(dirname(join(tree, to)), { recursive: true })
    await cp(join(own, from), join(tree, to))
  }
  await place('systemd/hades.service', 'lib/systemd/system/hades.service')
  await place('systemd/sysusers.conf', 'usr/lib/sysusers.d/hades.conf')
  await place('systemd/tmpfiles.conf', 'usr/lib/tmpfiles.d/hades.conf')
  await mkdir(join(tree, 'etc/hades'), { recursive: true })
  await writeFile(join(tree, 'etc/hades/hades.yaml'), exampleFile())
  await completions(tree)
  await documents(tree, 'hades')
  for (const name of ['api.md', 'cli.md', 'config.md', 'failures.md', 'operation.md', 'security.md']) {
    await cp(join(root, 'docs', name), join(tree, 'usr/share/doc/hades', name))
  }
  await finish(tree, {
    name: 'hades',
    architecture,
    lines: [`Depends: ${depends.join(', ')}`, `Recommends: ${recommends.join(', ')}`],
    text: 'deploys operating system images to machines\n HaDeS switches the power of machines, boots them from the network, writes disk images to them, proves\n what it wrote, and watches the new system start. This package holds its services and its command line.',
  })
}

/** Where each shell looks by itself for what packages bring. */
async function completions(tree: string): Promise<void> {
  const places = {
    bash: 'usr/share/bash-completion/completions/hades',
    zsh: 'usr/share/zsh/vendor-completions/_hades',
    fish: 'usr/share/fish/vendor_completions.d/hades.fish',
  }
  for (const shell of shells) {
    const file = join(tree, places[shell])
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, completionScripts[shell])
  }
}

/** The scout and the loaders, as far as they have been built. */
async function buildScout(tree: string): Promise<void> {
  const built = join(root, 'build')
  const parts = ['loaders', 'scout/current']
  const there = await Promise.all(parts.map((name) => stat(join(built, name)).catch(() => undefined)))
  if (there.includes(undefined)) {
    process.stdout.write('no hades-scout: build/ has no scout and loaders yet (`make build`)\n')
    return
  }
  for (const name of parts) {
    await mkdir(dirname(join(tree, 'usr/lib/hades/build', name)), { recursive: true })
    await cp(join(built, name), join(tree, 'usr/lib/hades/build', name), { recursive: true, dereference: true })
  }
  await documents(tree, 'hades-scout')
  await finish(tree, {
    name: 'hades-scout',
    architecture,
    lines: [],
    text: 'what HaDeS boots machines with\n The boot loaders, and the scout: the small system in which the agent of HaDeS runs.',
  })
}

/** The folders of the packages that the program needs when it runs, each with what is nested in it. */
async function productionModules(): Promise<string[]> {
  const { stdout } = await execa('npm', ['ls', '--omit=dev', '--all', '--parseable'], { cwd: root })
  const folders = stdout.split('\n').filter((line) => line.startsWith(join(root, 'node_modules')))
  if (folders.length === 0) throw new Error('node_modules is empty: run `make setup` first')
  return folders.filter((folder) => !/node-linux-[^/]*$/.test(folder))
}

/** The pinned Node without what debuggers read, where bin/hades looks for it. */
async function nodeProgram(program: string): Promise<void> {
  const at = join(program, 'node_modules', `node-linux-${process.arch}`, 'bin')
  await mkdir(at, { recursive: true })
  await execa('strip', ['-o', join(at, 'node'), join(root, 'node_modules', `node-linux-${process.arch}`, 'bin/node')])
  await mkdir(join(program, 'node_modules/.bin'), { recursive: true })
  await symlink(`../node-linux-${process.arch}/bin/node`, join(program, 'node_modules/.bin/node'))
}

async function copy(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true })
  await cp(from, to, { recursive: true, verbatimSymlinks: true, filter: (path) => !developers.test(path) })
}

async function documents(tree: string, name: string): Promise<void> {
  const folder = join(tree, 'usr/share/doc', name)
  await mkdir(folder, { recursive: true })
  await cp(join(own, 'debian/copyright'), join(folder, 'copyright'))
  const changes = await readFile(join(root, 'CHANGES.md'))
  await writeFile(join(folder, 'changelog.gz'), gzipSync(changes, { level: 9 }))
}

/** Writes the control files, sets modes as a package's are, and packs. */
async function finish(tree: string, { name, architecture, lines, text }: Control): Promise<void> {
  const kib = await settleModes(tree)
  const control = join(tree, 'DEBIAN')
  await mkdir(control)
  const head = [
    `Package: ${name}`,
    `Version: ${manifest.version}`,
    `Architecture: ${architecture}`,
    'Maintainer: HaDeS <hades@localhost>',
    'Section: admin',
    'Priority: optional',
    `Installed-Size: ${kib}`,
    ...lines,
  ]
  await writeFile(join(control, 'control'), `${[...head, `Description: ${text}`].join('\n')}\n`)
  if (name === 'hades') {
    await writeFile(join(control, 'conffiles'), '/etc/hades/hades.yaml\n')
    for (const script of ['postinst', 'prerm', 'postrm']) {
      await cp(join(own, 'debian', script), join(control, script))
      await chmod(join(control, script), 0o755)
    }
  }
  const file = join(out, `${name}_${manifest.version}_${architecture}.deb`)
  await execa('dpkg-deb', ['--root-owner-group', '-Zzstd', '-z9', '--build', tree, file])
  process.stdout.write(`built: ${file} (${Math.round((await stat(file)).size / 2 ** 20)} MiB)\n`)
}

/** Everyone may read everything; what was executable stays so. Returns KiB in all. */
async function settleModes(tree: string): Promise<number> {
  let bytes = 0
  await chmod(tree, 0o755)
  for (const entry of await readdir(tree, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    const { mode, size } = await lstat(path)
    bytes += size
    if (entry.isDirectory()) await chmod(path, 0o755)
    else if (entry.isFile()) await chmod(path, (mode & 0o111) === 0 ? 0o644 : 0o755)
  }
  return Math.ceil(bytes / 1024)
}
