// What the demo's system lacks to lie on md and LVM, and to mount by UUID what its fstab names before anybody logs in: Debian's
// mdadm and lvm2, an initial RAM disk that assembles arrays and volumes, and udev told of disks at once. Needs root.
//   node lab/storage-tools.ts      fetches the packages, so that tests need no network
import { appendFile, chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { execa } from 'execa'
import { candidateVersions, unpackPackage } from '../scout/debian.ts'
import { hashOf, part } from '../scout/parts.ts'

const cache = resolve(import.meta.dirname, '../build/parts')

const packages = [
  'mdadm',
  'lvm2',
  'dmsetup',
  'libdevmapper1.02.1',
  'libdevmapper-event1.02.1',
  'libaio1',
  'libedit2',
  'libbsd0',
  'libmd0',
]
const programs = ['/sbin/mdadm', '/sbin/lvm']
const modules = ['raid1', 'dm_mod']

/** What the initial RAM disk tries before each look for the root; without udev the programs make their nodes themselves. */
const assemble = `export MDADM_NO_UDEV=1 DM_DISABLE_UDEV=1
assemble() {
  /sbin/mdadm --assemble --scan --quiet
  /sbin/lvm vgchange --quiet --nolocking -ay
}
`

/**
 * The initial RAM disk has no udev, which would have left word that a volume is whole: without it the rules of lvm2 take no
 * notice of volumes that are there when udev begins (/lib/udev/rules.d/55-dm.rules), and nothing is found by UUID on them.
 */
const volumesAreWhole =
  'SUBSYSTEM=="block", KERNEL=="dm-[0-9]*", ACTION=="add|change", ENV{DM_UDEV_PRIMARY_SOURCE_FLAG}="1"\n'

/** Adds them to the tree of a system, in place. */
export async function addStorageTools(tree: string): Promise<void> {
  await unpackInto(tree)
  await execa('chroot', [tree, 'ldconfig'])
  const dropIn = join(tree, 'etc/systemd/system/systemd-udev-trigger.service.d/50-lab.conf')
  await writeFile(dropIn, `${(await readFile(dropIn, 'utf8')).trimEnd()} --subsystem-match=block\n`)
  await writeFile(join(tree, 'etc/udev/rules.d/54-lab.rules'), volumesAreWhole)
  const [kernel = ''] = await readdir(join(tree, 'lib/modules'))
  const initrd = join(tree, `boot/initrd.img-${kernel}`)
  const work = await mkdtemp(join(tmpdir(), 'hades-initrd-'))
  try {
    await execa('cpio', ['-i', '--quiet', 'init', 'modules'], { cwd: work, inputFile: initrd })
    const init = await readFile(join(work, 'init'), 'utf8')
    const words = init
      .replace('tries=600', `${assemble}tries=600`)
      .replace('\n  tries=$((', '\n  assemble\n  tries=$((')
    if (!words.includes('assemble() {') || !words.includes('\n  assemble\n'))
      throw new Error('the initial RAM disk looks for its root in another way')
    await writeFile(join(work, 'init'), words)
    await chmod(join(work, 'init'), 0o755)
    await addModules(tree, work, kernel)
    for (const program of programs) await addProgram(tree, work, program)
    for (const name of ['run/lock/lvm', 'run/mdadm', 'etc', 'tmp']) await mkdir(join(work, name), { recursive: true })
    const names = ['.', ...(await readdir(work, { recursive: true })).sort()]
    const options = { cwd: work, input: `${names.join('\n')}\n`, encoding: 'buffer' } as const
    // The kernel reads both, one behind the other: what comes later wins.
    await appendFile(initrd, (await execa('cpio', ['-o', '-H', 'newc', '--quiet'], options)).stdout)
  } finally {
    await rm(work, { recursive: true })
  }
}

/** A folder with the files of the packages, made once for their versions. */
async function packageFiles(): Promise<string> {
  const versions = [...(await candidateVersions(packages))]
  const name = `storage-tools-${hashOf(versions.map((version) => version.join('=')))}`
  const { folder } = await part(cache, name, async (unfinished) => {
    for (const [name, version] of versions) await unpackPackage(name, version, unfinished)
  })
  return folder
}

/** Not by dpkg straight away: it would put a folder in the place of the link /lib. */
async function unpackInto(tree: string): Promise<void> {
  const staging = await mkdtemp(join(tmpdir(), 'hades-tools-'))
  try {
    const archive = join(staging, 'files.tar')
    await execa('tar', ['--create', '--file', archive, '--directory', await packageFiles(), '.'])
    await execa('tar', ['--extract', '--keep-directory-symlink', '--file', archive, '--directory', tree])
  } finally {
    await rm(staging, { recursive: true })
  }
}

async function addModules(tree: string, work: string, kernel: string): Promise<void> {
  const lines = new Set((await readFile(join(work, 'modules'), 'utf8')).trim().split('\n'))
  for (const name of modules) {
    const { stdout } = await execa('chroot', [tree, 'modprobe', '-S', kernel, '--show-depends', name])
    for (const [, path = ''] of stdout.matchAll(/^insmod (\S+)/gm)) {
      lines.add(path)
      await addFile(tree, work, path)
    }
  }
  await writeFile(join(work, 'modules'), `${[...lines].join('\n')}\n`)
}

async function addProgram(tree: string, work: string, program: string): Promise<void> {
  await addFile(tree, work, program)
  const { stdout } = await execa('chroot', [tree, 'ldd', program])
  for (const [path] of stdout.matchAll(/\/\S+/g)) await addFile(tree, work, path)
}

/** Copies what a name leads to, under that name. */
async function addFile(tree: string, work: string, path: string): Promise<void> {
  await mkdir(dirname(join(work, path)), { recursive: true })
  await copyFile(join(tree, path), join(work, path))
}

if (import.meta.main) console.log(await packageFiles())
