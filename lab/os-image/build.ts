// Builds the demo's operating system image from Debian packages: build/os-image/<hash of its inputs>/debian.raw, a GPT
// disk that boots by BIOS and by UEFI (also with Secure Boot), and id_ed25519, the key that its root accepts. `current`
// beside it points to the newest. Needs root, because the files in the image belong to root and others.
//   node lab/os-image/build.ts
import { chmod, copyFile, cp, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { execa } from 'execa'
import { candidateVersions, unpackPackage } from '../../scout/debian.ts'
import { contentsOf, hashOf, part, pointTo } from '../../scout/parts.ts'
import {
  excludedPaths,
  initrdModules,
  kernelArguments,
  loaderPackages,
  maskedGenerators,
  maskedUnits,
  packages,
  suite,
} from './contents.ts'
import { type DiskParts, makeDisk } from './disk.ts'

export type OsImage = {
  /** Raw disk image, sparse. */
  readonly image: string
  /** Private key of root, mode 0600. */
  readonly key: string
}

const repository = resolve(import.meta.dirname, '../..')
const buildMs = 900_000

/** The image, built when there is none of these inputs yet. `out` is the folder of all of them. */
export async function buildOsImage(out: string = join(repository, 'build/os-image')): Promise<OsImage> {
  const { folder } = await part(out, hashOf(await contentsOf(import.meta.dirname)), buildInto)
  await pointTo(join(out, 'current'), folder)
  return { image: join(folder, 'debian.raw'), key: join(folder, 'id_ed25519') }
}

async function buildInto(folder: string): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('the demo image is built as root: its files belong to several users')
  const work = join(folder, 'work')
  const tree = join(work, 'tree')
  const loaders = join(work, 'loaders')
  await mkdir(work)
  await execa('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'hades-demo', '-f', join(folder, 'id_ed25519')])
  await Promise.all([installPackages(tree), unpackLoaders(loaders)])
  await addFiles(tree, join(folder, 'id_ed25519.pub'))
  await trimUnits(tree)
  const kernel = await kernelVersion(tree)
  await makeInitrd(tree, kernel, join(work, 'initrd'))
  const disk: DiskParts = { tree, loaders, work, rootUuid: crypto.randomUUID() }
  await writeBootMenu(tree, kernel, disk.rootUuid)
  await makeDisk(join(folder, 'debian.raw'), disk)
  await rm(work, { recursive: true })
  await chmod(folder, 0o755)
}

async function installPackages(tree: string): Promise<void> {
  const options = [
    '--quiet',
    '--mode=root',
    '--variant=minbase',
    `--include=${packages.join(',')}`,
    '--aptopt=APT::Install-Recommends "false"',
    ...excludedPaths.map((path) => `--dpkgopt=path-exclude=${path}`),
  ]
  // In a mount namespace of its own, so that a build that is killed leaves no /proc mounted inside the tree.
  await execa('unshare', ['--mount', 'mmdebstrap', ...options, suite, tree], { timeout: buildMs })
}

async function unpackLoaders(folder: string): Promise<void> {
  await mkdir(folder)
  const versions = await candidateVersions(loaderPackages)
  for (const [name, version] of versions) await unpackPackage(name, version, folder)
}

async function addFiles(tree: string, publicKey: string): Promise<void> {
  await cp(join(import.meta.dirname, 'files'), tree, { recursive: true })
  await mkdir(join(tree, 'root/.ssh'), { mode: 0o700, recursive: true })
  await copyFile(publicKey, join(tree, 'root/.ssh/authorized_keys'))
  // Empty, not missing: systemd then makes one at each machine without taking the boot for a first installation.
  await writeFile(join(tree, 'etc/machine-id'), '')
  await writeFile(join(tree, 'etc/fstab'), '# The initial RAM disk has mounted the root.\n')
  // The name comes by DHCP; host keys are made at the first boot.
  const unwanted = ['etc/hostname', 'initrd.img', 'initrd.img.old', 'vmlinuz', 'vmlinuz.old', 'var/lib/dbus/machine-id']
  for (const name of await readdir(join(tree, 'etc/ssh'))) {
    if (name.startsWith('ssh_host_')) unwanted.push(join('etc/ssh', name))
  }
  for (const name of unwanted) await rm(join(tree, name), { force: true })
}

async function trimUnits(tree: string): Promise<void> {
  const system = join(tree, 'etc/systemd/system')
  const generators = join(tree, 'etc/systemd/system-generators')
  await mkdir(generators, { recursive: true })
  for (const name of maskedUnits) await relink('/dev/null', join(system, name))
  for (const name of maskedGenerators) await relink('/dev/null', join(generators, name))
  await rm(join(system, 'timers.target.wants'), { recursive: true, force: true })
  const wants = join(system, 'multi-user.target.wants')
  await relink('/lib/systemd/system/systemd-networkd.service', join(wants, 'systemd-networkd.service'))
  for (const name of ['console.service', 'late-coldplug.service']) await relink(`../${name}`, join(wants, name))
  await relink('/lib/systemd/system/multi-user.target', join(system, 'default.target'))
}

async function relink(target: string, link: string): Promise<void> {
  await rm(link, { force: true })
  await symlink(target, link)
}

async function kernelVersion(tree: string): Promise<string> {
  const [version, ...others] = await readdir(join(tree, 'lib/modules'))
  if (version === undefined || others.length > 0) throw new Error(`one kernel was to be in ${tree}/lib/modules`)
  return version
}

/** An initial RAM disk of busybox and a few modules; the general one takes seconds more under emulation. */
async function makeInitrd(tree: string, kernel: string, folder: string): Promise<void> {
  for (const name of ['bin', 'proc', 'sys', 'dev', 'root']) await mkdir(join(folder, name), { recursive: true })
  await copyFile(join(tree, 'bin/busybox'), join(folder, 'bin/busybox'))
  await copyFile(join(import.meta.dirname, 'initrd-init'), join(folder, 'init'))
  const modules = new Set<string>()
  for (const name of initrdModules) {
    const { stdout } = await execa('chroot', [tree, 'modprobe', '-S', kernel, '--show-depends', name])
    for (const [, path] of stdout.matchAll(/^insmod (\S+)/gm)) if (path !== undefined) modules.add(path)
  }
  for (const path of modules) await cp(join(tree, path), join(folder, path))
  await writeFile(join(folder, 'modules'), `${[...modules].join('\n')}\n`)
  const names = ['.', ...(await readdir(folder, { recursive: true })).sort()]
  const { stdout } = await execa(join(tree, 'bin/busybox'), ['cpio', '-o', '-H', 'newc'], {
    cwd: folder,
    input: `${names.join('\n')}\n`,
    encoding: 'buffer',
  })
  await writeFile(join(tree, `boot/initrd.img-${kernel}`), stdout)
}

async function writeBootMenu(tree: string, kernel: string, rootUuid: string): Promise<void> {
  const options = [`root=UUID=${rootUuid}`, 'console=tty0', 'console=ttyS0,115200', ...kernelArguments]
  await mkdir(join(tree, 'boot/grub'), { recursive: true })
  await writeFile(
    join(tree, 'boot/grub/grub.cfg'),
    `set timeout=0
menuentry Debian {
  linux /boot/vmlinuz-${kernel} ${options.join(' ')}
  initrd /boot/initrd.img-${kernel}
}
`,
  )
}

if (import.meta.main) {
  const started = performance.now()
  const { image, key } = await buildOsImage()
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  console.log(`${image} (${seconds} s); root's key: ${key}`)
  console.log((await readFile(`${key}.pub`, 'utf8')).trim())
}
