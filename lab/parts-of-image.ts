// What tests need of the demo's operating system image beside the disk: the file system of its root as an image of one
// partition, and its files as a tar. Needs root, to mount it.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { unmount } from '../src/lib/block-devices.ts'
import { kernelArguments } from './os-image/contents.ts'
import { addStorageTools } from './storage-tools.ts'

/** Of the demo's disk: behind the BIOS boot partition and the EFI system partition. */
const rootPartition = 3

export type ImageParts = { readonly partition: string; readonly tar: string }

/**
 * Takes `debian.raw` apart in `folder`. A boot loader that is installed later finds the kernel arguments of the image.
 * `withStorageTools`: both know md and LVM, and mount what their fstab names.
 */
export async function takeApart(
  disk: string,
  folder: string,
  { withStorageTools = false }: { readonly withStorageTools?: boolean } = {},
): Promise<ImageParts> {
  const partition = join(folder, 'root.raw')
  const tar = join(folder, 'root.tar')
  await cutPartition(disk, rootPartition, partition)
  const at = join(folder, 'root')
  await mkdir(at)
  await execa('mount', ['-o', 'loop', partition, at])
  try {
    const words = ['console=tty0', 'console=ttyS0,115200', ...kernelArguments]
    await mkdir(join(at, 'etc/default'), { recursive: true })
    await writeFile(join(at, 'etc/default/grub'), `GRUB_CMDLINE_LINUX="${words.join(' ')}"\n`)
    if (withStorageTools) await addStorageTools(at)
    // The kernel makes device nodes; an archive with some is refused.
    await execa('tar', [
      '--create',
      '--exclude=./dev/*',
      '--xattrs',
      '--numeric-owner',
      '--file',
      tar,
      '--directory',
      at,
      '.',
    ])
  } finally {
    await unmount(at)
  }
  return { partition, tar }
}

/** A copy of a file system of a root at `to`, with another UUID, which its menu names, and `/etc/hades-copy` to tell it by. */
export async function copyRoot(partition: string, to: string, mountPoint: string): Promise<void> {
  await execa('cp', ['--sparse=always', partition, to])
  const uuidOf = async () => (await execa('blkid', ['-p', '-s', 'UUID', '-o', 'value', to])).stdout.trim()
  const before = await uuidOf()
  // tune2fs changes nothing that was not checked since it was last mounted; 1 is a repair that succeeded.
  await execa('e2fsck', ['-fy', to], { reject: false })
  await execa('tune2fs', ['-U', 'random', to])
  const after = await uuidOf()
  await mkdir(mountPoint, { recursive: true })
  await execa('mount', ['-o', 'loop', to, mountPoint])
  try {
    const menu = join(mountPoint, 'boot/grub/grub.cfg')
    await writeFile(menu, (await readFile(menu, 'utf8')).replaceAll(before, after))
    await writeFile(join(mountPoint, 'etc/hades-copy'), `${after}\n`)
  } finally {
    await unmount(mountPoint)
  }
}

/** The partition with this number of a raw disk, or as many bytes of it, as a file at `to`. */
export async function cutPartition(disk: string, number: number, to: string, bytesMax = Infinity): Promise<void> {
  const { stdout } = await execa('sfdisk', ['--json', disk])
  const { partitiontable } = JSON.parse(stdout) as {
    partitiontable: { sectorsize: number; partitions: { start: number; size: number }[] }
  }
  const one = partitiontable.partitions[number - 1]
  if (one === undefined) throw new Error(`${disk} has no partition ${number}`)
  const { sectorsize } = partitiontable
  const place = [`skip=${one.start * sectorsize}`, `count=${Math.min(bytesMax, one.size * sectorsize)}`]
  const flags = ['iflag=skip_bytes,count_bytes', 'bs=4M', 'conv=sparse', 'status=none']
  await execa('dd', [`if=${disk}`, `of=${to}`, ...place, ...flags])
}
