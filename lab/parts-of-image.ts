// What tests need of the demo's operating system image beside the disk: the file system of its root as an image of one
// partition, and its files as a tar. Needs root, to mount it.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { kernelArguments } from './os-image/contents.ts'

export type ImageParts = { readonly partition: string; readonly tar: string }

/** Takes `debian.raw` apart in `folder`. A boot loader that is installed later finds the kernel arguments of the image. */
export async function takeApart(disk: string, folder: string): Promise<ImageParts> {
  const partition = join(folder, 'root.raw')
  const tar = join(folder, 'root.tar')
  const { stdout } = await execa('sfdisk', ['--json', disk])
  const { partitiontable } = JSON.parse(stdout) as {
    partitiontable: { sectorsize: number; partitions: { start: number; size: number }[] }
  }
  const root = partitiontable.partitions.at(-1)
  if (root === undefined) throw new Error(`${disk} has no partitions`)
  const place = [`skip=${root.start * partitiontable.sectorsize}`, `count=${root.size * partitiontable.sectorsize}`]
  const flags = ['iflag=skip_bytes,count_bytes', 'bs=4M', 'conv=sparse', 'status=none']
  await execa('dd', [`if=${disk}`, `of=${partition}`, ...place, ...flags])
  const at = join(folder, 'root')
  await mkdir(at)
  await execa('mount', ['-o', 'loop', partition, at])
  try {
    const words = ['console=tty0', 'console=ttyS0,115200', ...kernelArguments]
    await mkdir(join(at, 'etc/default'), { recursive: true })
    await writeFile(join(at, 'etc/default/grub'), `GRUB_CMDLINE_LINUX="${words.join(' ')}"\n`)
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
    await execa('umount', [at])
  }
  return { partition, tar }
}
