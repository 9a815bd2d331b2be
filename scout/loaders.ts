// Assembles `build/loaders/`, the boot loaders that firmware fetches by TFTP or HTTP: pxelinux and iPXE as Debian ships
// them, and GRUB network images of our own (docs/decisions/0002-uefi-loader.md). Needs no root.
//   node scout/loaders.ts [--out build]
import { chmod, copyFile, readFile, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { execa } from 'execa'
import { candidateVersions, unpackPackage } from './debian.ts'
import { hashOf, part, pointTo } from './parts.ts'

/** Package, then the files taken from it. ldlinux.c32 is pxelinux's second half; with INITRD and LINUX it needs no other. */
const sources: Readonly<Record<string, readonly string[]>> = {
  pxelinux: ['usr/lib/PXELINUX/lpxelinux.0'],
  'syslinux-common': ['usr/lib/syslinux/modules/bios/ldlinux.c32'],
  ipxe: ['usr/lib/ipxe/undionly.kpxe', 'usr/lib/ipxe/snponly.efi', 'boot/ipxe.lkrn'],
  'grub-efi-amd64-bin': [],
  'grub-pc-bin': [],
}

/**
 * All that the scripts use, built in: modules fetched from the network would cost round trips, and Secure Boot refuses them.
 * With what the menus of installed systems ask for, because `local:<partition>` runs them: their file systems, and the
 * commands that update-grub writes.
 */
const commonModules =
  'normal memdisk tar configfile echo test true sleep regexp net tftp linux chain boot reboot halt ' +
  'search search_fs_file search_fs_uuid search_label probe part_gpt part_msdos fat ext2 xfs btrfs lvm mdraid1x ' +
  'loadenv gzio minicmd serial terminal gfxterm font keystatus syslinuxcfg'

/** Our two images: for UEFI machines, and for BIOS machines that pxelinux and iPXE send on (`local:<partition>`). */
const grubImages = [
  { format: 'x86_64-efi', modules: 'efinet all_video', file: 'grubx64.efi' },
  { format: 'i386-pc-pxe', modules: 'pxe biosdisk all_video linux16 drivemap', file: 'grubpc.0' },
] as const

const { values } = parseArgs({
  options: { out: { type: 'string', default: resolve(import.meta.dirname, '../build') } },
})
const out = resolve(values.out)
const grubConfig = join(import.meta.dirname, 'loaders/grub.cfg')

const versions = await candidateVersions(Object.keys(sources))
const recipe = [await readFile(import.meta.filename), await readFile(grubConfig), JSON.stringify([...versions])]
const { folder, isNew } = await part(join(out, 'parts'), `loaders-${hashOf(recipe)}`, assemble)
await pointTo(join(out, 'loaders'), folder)
process.stdout.write(`${isNew ? 'built' : 'up to date'}: ${join(out, 'loaders')}\n`)

async function assemble(unfinished: string): Promise<void> {
  const packages = join(unfinished, 'packages')
  for (const [name, files] of Object.entries(sources)) {
    await unpackPackage(name, versions.get(name) ?? '', packages)
    for (const file of files) await copyFile(join(packages, file), join(unfinished, basename(file)))
  }
  // What is given to GRUB by -c runs in a parser without `if`; the real script lies in an archive inside the image.
  const archive = join(packages, 'memdisk.tar')
  await execa('tar', ['-C', dirname(grubConfig), '-cf', archive, basename(grubConfig)])
  const start = join(packages, 'start.cfg')
  await writeFile(start, 'normal (memdisk)/grub.cfg\n')
  for (const { format, modules, file } of grubImages) {
    const folder = join(packages, 'usr/lib/grub', format.replace('-pxe', ''))
    const image = ['-O', format, '-d', folder, '-p', '(memdisk)/grub', '-c', start, '-m', archive]
    await execa('grub-mkimage', [...image, '-o', join(unfinished, file), ...`${commonModules} ${modules}`.split(' ')])
  }
  await rm(packages, { recursive: true })
  await chmod(unfinished, 0o755)
}
