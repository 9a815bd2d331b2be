// Lays the demo system out on a disk image without mounting or looping anything: GPT with a BIOS boot partition, an EFI
// system partition and the root file system last, where it can grow.
import { open, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'

export type DiskParts = {
  /** The root file system as a folder. */
  readonly tree: string
  /** Unpacked packages of the boot loaders. */
  readonly loaders: string
  /** For files in between. */
  readonly work: string
  readonly rootUuid: string
}

const MiB = 1024 ** 2
const sectorBytes = 512
const diskBytes = 1024 * MiB
const biosBoot = { start: 1 * MiB, end: 2 * MiB }
const efi = { start: 2 * MiB, end: 34 * MiB }
// The last MiB is left for the backup of the partition table.
const root = { start: 34 * MiB, end: diskBytes - MiB }

const grubModules = [
  'biosdisk',
  'part_gpt',
  'ext2',
  'search_fs_uuid',
  'configfile',
  'normal',
  'linux',
  'minicmd',
  'echo',
]

/** Makes the raw disk image at `file`. */
export async function makeDisk(file: string, parts: DiskParts): Promise<void> {
  await writeFile(file, '')
  await truncate(file, diskBytes)
  const layout = [biosBoot, efi, root].flatMap(({ start, end }, index) => [
    `--new=${index + 1}:${start / sectorBytes}:${end / sectorBytes - 1}`,
    `--typecode=${index + 1}:${['ef02', 'ef00', '8304'][index]}`,
    `--change-name=${index + 1}:${['bios', 'esp', 'root'][index]}`,
  ])
  await execa('sgdisk', [...layout, file])
  // Both loaders find the root by its UUID, so that the disk may be the second of its machine.
  const search = `search.fs_uuid ${parts.rootUuid} root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n`
  const searchFile = join(parts.work, 'search.cfg')
  await writeFile(searchFile, search)
  await makeEfiPartition(file, parts, searchFile)
  const kind = ['-q', '-t', 'ext4', '-b', '4096', '-m', '0', '-L', 'root', '-U', parts.rootUuid]
  const place = ['-d', parts.tree, '-E', `offset=${root.start}`]
  await execa('mke2fs', [...kind, ...place, file, String((root.end - root.start) / 4096)])
  await installBiosLoader(file, parts, searchFile)
}

async function makeEfiPartition(file: string, { loaders, work }: DiskParts, searchFile: string): Promise<void> {
  const fat = join(work, 'esp.img')
  await writeFile(fat, '')
  await truncate(fat, efi.end - efi.start)
  await execa('mformat', ['-i', fat, '-v', 'ESP', '::'])
  await execa('mmd', ['-i', fat, '::/EFI', '::/EFI/BOOT', '::/EFI/debian'])
  const files: [from: string, to: string][] = [
    [join(loaders, 'usr/lib/shim/shimx64.efi.signed'), 'EFI/BOOT/BOOTX64.EFI'],
    [join(loaders, 'usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed'), 'EFI/BOOT/grubx64.efi'],
    // Where Debian's signed GRUB looks for its configuration, wherever it was started from.
    [searchFile, 'EFI/debian/grub.cfg'],
  ]
  for (const [from, to] of files) await execa('mcopy', ['-i', fat, from, `::/${to}`])
  await execa('dd', [`if=${fat}`, `of=${file}`, 'bs=1M', `seek=${efi.start / MiB}`, 'conv=notrunc,sparse'])
  await rm(fat)
}

/** What grub-install does, which wants to see the partitions as block devices. */
async function installBiosLoader(file: string, { loaders, work }: DiskParts, searchFile: string): Promise<void> {
  const modules = join(loaders, 'usr/lib/grub/i386-pc')
  const coreFile = join(work, 'core.img')
  const options = ['-O', 'i386-pc', '-d', modules, '-o', coreFile, '-c', searchFile, '-p', '/boot/grub']
  await execa('grub-mkimage', [...options, ...grubModules])
  const disk = await open(file, 'r+')
  try {
    const boot = await readFile(join(modules, 'boot.img'))
    const { buffer: present } = await disk.read(Buffer.alloc(sectorBytes), 0, sectorBytes, 0)
    const first = biosBoot.start / sectorBytes
    boot.writeBigUInt64LE(BigInt(first), 0x5c) // boot.img: the sector to load next
    boot.write('9090', 0x66, 'hex') // boot.img: take the drive number that the firmware gives, as grub-install does
    present.copy(boot, 440, 440) // disk signature and protective partition table
    const unpadded = await readFile(coreFile)
    const core = Buffer.alloc(Math.ceil(unpadded.length / sectorBytes) * sectorBytes)
    unpadded.copy(core)
    if (core.length > biosBoot.end - biosBoot.start) throw new Error(`GRUB takes ${core.length} bytes: too many`)
    // The one block list of core.img's first sector: where the rest of it lies, and its segment in memory.
    core.writeBigUInt64LE(BigInt(first + 1), 0x1f4)
    core.writeUInt16LE(core.length / sectorBytes - 1, 0x1fc)
    core.writeUInt16LE(0x820, 0x1fe)
    await disk.write(boot, 0, sectorBytes, 0)
    await disk.write(core, 0, core.length, biosBoot.start)
  } finally {
    await disk.close()
  }
}
