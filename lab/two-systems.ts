// A small disk with several systems side by side, to see which of them a machine boots: two Linux systems, each with a menu
// and a kernel of its own on a partition of its own, and a third partition with nothing but loaders, one for each firmware.
// Each says on the console which it is. Nothing is mounted and no disk has a loader in front.
//   node lab/two-systems.ts FILE
import { mkdir, mkdtemp, open, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { execa } from 'execa'

const build = resolve(import.meta.dirname, '../build')
const MiB = 1024 ** 2
const sectorBytes = 512
/** The demo image, and where its EFI system partition and its root file system begin: loaders and kernel are taken from it. */
const demo = { image: join(build, 'os-image/current/debian.raw'), esp: 2 * MiB, root: 34 * MiB }

const places = [
  { start: 1 * MiB, end: 33 * MiB, type: '8300' },
  { start: 33 * MiB, end: 65 * MiB, type: '8300' },
  { start: 65 * MiB, end: 97 * MiB, type: 'ef00' },
] as const

export type TwoSystems = {
  /** UUIDs of the file systems of partitions 1 and 2. */
  readonly fsUuids: readonly [string, string]
}

/** What a machine says on its console that boots this partition. */
export const saidBy = (partition: number): string => `this is partition ${partition} of the test disk`

/** Makes the raw disk at `file`. Needs the demo image (`make build`). */
export async function makeTwoSystems(file: string): Promise<TwoSystems> {
  const work = await mkdtemp(join(tmpdir(), 'hades-systems-'))
  try {
    await writeFile(file, '')
    await truncate(file, 98 * MiB)
    const layout = places.flatMap(({ start, end, type }, index) => [
      `--new=${index + 1}:${start / sectorBytes}:${end / sectorBytes - 1}`,
      `--typecode=${index + 1}:${type}`,
    ])
    await execa('sgdisk', [...layout, file])
    const fsUuids: [string, string] = [crypto.randomUUID(), crypto.randomUUID()]
    for (const [index, uuid] of fsUuids.entries()) await putSystem(file, join(work, `${index}`), index + 1, uuid)
    await putLoaders(file, work)
    return { fsUuids }
  } finally {
    await rm(work, { recursive: true })
  }
}

/** A menu as update-grub writes it in short, a kernel, and an initial RAM disk that says who it is. */
async function putSystem(file: string, folder: string, partition: number, uuid: string): Promise<void> {
  const place = places[partition - 1] ?? places[0]
  const root = join(folder, 'root')
  await mkdir(join(folder, 'bin'), { recursive: true })
  // With /boot on the root file system in the first, on a partition of its own in the second.
  const boot = partition === 1 ? '/boot' : ''
  await mkdir(join(root, boot, 'grub'), { recursive: true })
  await execa('cp', ['/bin/busybox', join(folder, 'bin/busybox')])
  const init = `#!/bin/busybox sh\necho "${saidBy(partition)}"\n/bin/busybox sleep 1\n/bin/busybox poweroff -f\n`
  await writeFile(join(folder, 'init'), init, { mode: 0o755 })
  const names = 'init\nbin\nbin/busybox\n'
  const cpio = await execa('cpio', ['-o', '-H', 'newc'], { cwd: folder, input: names, encoding: 'buffer' })
  await writeFile(join(root, boot, 'initrd'), cpio.stdout)
  await copyDemoKernel(join(root, boot, 'vmlinuz'))
  const menu = `insmod part_gpt
insmod ext2
search --no-floppy --fs-uuid --set=root ${uuid}
set timeout=0
menuentry 'system ${partition}' {
  linux ${boot}/vmlinuz console=ttyS0,115200 quiet
  initrd ${boot}/initrd
}
`
  await writeFile(join(root, boot, 'grub/grub.cfg'), menu)
  const options = ['-q', '-t', 'ext4', '-b', '4096', '-m', '0', '-U', uuid, '-d', root, '-E', `offset=${place.start}`]
  await execa('mke2fs', [...options, file, String((place.end - place.start) / 4096)])
}

/** Copies the kernel of the demo image to `file`: it unpacks itself faster than the scout's, which matters under emulation. */
export async function copyDemoKernel(file: string): Promise<void> {
  const image = `${demo.image}?offset=${demo.root}`
  const { stdout } = await execa('debugfs', ['-R', 'ls -p /boot', image])
  const name = /\/(vmlinuz-[^/]+)\//.exec(stdout)?.[1]
  if (name === undefined) throw new Error(`${demo.image} has no kernel in /boot`)
  await execa('debugfs', ['-R', `dump /boot/${name} ${file}`, image])
}

/** A FAT file system with a loader for UEFI, and a boot sector for BIOS that only speaks. */
async function putLoaders(file: string, work: string): Promise<void> {
  const { start, end } = places[2]
  const fat = join(work, 'fat')
  await writeFile(fat, '')
  await truncate(fat, end - start)
  await execa('mformat', ['-i', fat, '-v', 'LOADERS', '::'])
  await execa('mmd', ['-i', fat, '::/EFI', '::/EFI/BOOT', '::/EFI/debian'])
  const esp = `${demo.image}@@${demo.esp}`
  for (const name of ['BOOTX64.EFI', 'grubx64.efi']) {
    await execa('mcopy', ['-i', esp, `::/EFI/BOOT/${name}`, join(work, name)])
    await execa('mcopy', ['-i', fat, join(work, name), `::/EFI/BOOT/${name}`])
  }
  await writeFile(join(work, 'grub.cfg'), `echo '${saidBy(3)}'\nsleep 2\nhalt\n`)
  await execa('mcopy', ['-i', fat, join(work, 'grub.cfg'), '::/EFI/debian/grub.cfg'])
  const bytes = await readFile(fat)
  speakingSector(saidBy(3)).copy(bytes, 0x5a)
  bytes.set([0xeb, 0x58, 0x90], 0)
  bytes.set([0x55, 0xaa], 510)
  const disk = await open(file, 'r+')
  await disk.write(bytes, 0, bytes.length, start)
  await disk.close()
}

/** x86 code that writes `text` by the BIOS (int 10h, ah=0Eh) and stops; it finds the text by where it runs itself. */
function speakingSector(text: string): Buffer {
  const code = [
    [0x31, 0xc0, 0x8e, 0xd8], // xor ax,ax; mov ds,ax
    [0xe8, 0x00, 0x00], // call next
    [0x5e], // next: pop si
    [0x83, 0xc6, 0x12], // add si, text - next
    [0xac, 0x84, 0xc0, 0x74, 0x06], // again: lodsb; test al,al; jz stop
    [0xb4, 0x0e, 0xcd, 0x10, 0xeb, 0xf5], // mov ah,0Eh; int 10h; jmp again
    [0xf4, 0xeb, 0xfd], // stop: hlt; jmp stop
  ]
  return Buffer.concat([Buffer.from(code.flat()), Buffer.from(`\r\n${text}\r\nand stops here\r\n\0`)])
}

if (import.meta.main) {
  const [file] = process.argv.slice(2)
  if (file === undefined) throw new Error('usage: node lab/two-systems.ts FILE')
  console.log(JSON.stringify(await makeTwoSystems(resolve(file))))
}
