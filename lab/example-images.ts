// The images that the setups of examples/ name, made of the demo's Debian: file systems and trees that know md and LVM, a second
// system, and the partitions of a disk like that of Windows, whose contents HaDeS takes as they are. Needs root.
import { readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { type Cluster, publish } from './cluster.ts'
import { copyRoot, cutPartition, takeApart } from './parts-of-image.ts'

const examples = join(import.meta.dirname, '..', 'examples')
const MiB = 1024 ** 2
const ntfsBytes = 256 * MiB

/** What is in the file `mine.txt` of the Windows-like disk. */
export const windowsMark = 'a file of a system that nobody here knows'

/** Names of the examples that stand for the same image here. */
const others: Readonly<Record<string, string>> = {
  'hadoop-root:3': 'debian-root:12',
  'production-root:1': 'debian-root:12',
  // What answers on the disk like that of Windows is its recovery system: no Windows is at hand.
  'windows-recovery:11': 'debian-root:12',
}

/** Emulated machines are slow to write, and one that hangs when it boots is switched on anew before the test gives up. */
const deadlines = '<deadlines boot="10min" deploy="30min" observe="5min" attempts="3"/>'

/** The example setup of this name, with our images and the deadlines of slow machines. */
export async function exampleSetup(name: string): Promise<string> {
  let xml = (await readFile(join(examples, `${name}.xml`), 'utf8')).replace(/ *<deadlines[^>]*>\n/, '')
  for (const [theirs, ours] of Object.entries(others)) xml = xml.replaceAll(theirs, ours)
  if (name === 'windows') xml = xml.replace('<tcp port="3389"/>', '<tcp port="22" expect="SSH-2.0"/>')
  return xml.replace('</setup>', `${deadlines}\n</setup>`)
}

/** Publishes them all, made in `folder` of the demo's disk. */
export async function publishExampleImages(cluster: Cluster, disk: string, folder: string): Promise<void> {
  const parts = await takeApart(disk, folder, { withStorageTools: true })
  const [copy, esp, ntfs] = [join(folder, 'copy.raw'), join(folder, 'esp.raw'), join(folder, 'ntfs.raw')]
  await copyRoot(parts.partition, copy, join(folder, 'copy'))
  await cutPartition(disk, 2, esp)
  await makeNtfs(ntfs)
  const images = {
    'debian:12': disk,
    'debian-root:12': parts.partition,
    'debian-tree:12': parts.tar,
    'development-root:1': copy,
    'windows-esp:11': esp,
    'windows-c:11': ntfs,
  }
  for (const [name, file] of Object.entries(images)) await publish(cluster, file, name)
}

async function makeNtfs(file: string): Promise<void> {
  await writeFile(file, '')
  await truncate(file, ntfsBytes)
  await execa('mkfs.ntfs', ['--quiet', '--fast', '--force', '--label', 'Windows', '--partition-start', '2048', file])
  // Not from a pipe: ntfscp wants a file with a size.
  await writeFile(`${file}.txt`, windowsMark)
  await execa('ntfscp', ['--force', file, `${file}.txt`, 'mine.txt'])
}

/** What the file of the Windows-like disk says on partition 3 of a raw disk. The new system has no driver for NTFS. */
export async function readWindowsMark(disk: string, folder: string): Promise<string> {
  const volume = join(folder, 'c-of-disk.raw')
  await cutPartition(disk, 3, volume, ntfsBytes)
  return (await execa('ntfscat', ['--force', volume, 'mine.txt'])).stdout
}
