// Creates the file systems and swap areas of a setup, and reads back what they are called. The programs are the usual ones
// (e2fsprogs, xfsprogs, btrfs-progs, dosfstools, ntfs-3g, util-linux).
import { Failure } from '../model/failure.ts'
import type { Content } from '../model/layout.ts'
import type { Device, Place } from './place.ts'
import { readSignature } from './signature.ts'
import { runTool } from './tool.ts'

/** A large ext4 writes its tables for minutes on a slow disk. */
const makeTimeoutMs = 1_800_000

type Made = Extract<Content, { kind: 'filesystem' | 'swap' }>

export function isMade(content: Content): content is Made {
  return content.kind === 'filesystem' || content.kind === 'swap'
}

/** FAT32 has at least 65,525 clusters, of a sector each at least; smaller file systems are FAT16 or FAT12. */
const fat32ClustersMin = 66_600

/** The commands that make `content` on a device, in their order. */
export function commandsFor(content: Made, { path, sizeBytes, sectorBytes }: Device): string[][] {
  const { label, uuid } = content
  const option = (name: string, value: string | undefined) => (value === undefined ? [] : [name, value])
  if (content.kind === 'swap') return [['mkswap', '--force', ...option('-L', label), ...option('-U', uuid), path]]
  switch (content.filesystem) {
    case 'ext4': {
      // Boot loaders and kernels of systems older than the scout do not read these two.
      const kind = ['mkfs.ext4', '-q', '-F', '-O', '^metadata_csum_seed,^orphan_file']
      return [[...kind, ...option('-L', label), ...option('-U', uuid), path]]
    }
    case 'xfs':
      return [['mkfs.xfs', '-q', '-f', '-K', ...option('-L', label), ...option('-m', uuid && `uuid=${uuid}`), path]]
    case 'btrfs':
      return [['mkfs.btrfs', '-q', '-f', '-K', ...option('-L', label), ...option('-U', uuid), path]]
    case 'vfat': {
      const bits = sizeBytes >= fat32ClustersMin * sectorBytes ? ['-F', '32'] : []
      return [['mkfs.vfat', '-I', ...bits, ...option('-n', label), ...option('-i', uuid?.replace('-', '')), path]]
    }
    case 'ntfs': {
      const make = ['mkntfs', '--quiet', '--fast', '--force', ...option('--label', label), path]
      // mkntfs chooses the serial number, which is what an NTFS has for a UUID.
      return uuid === undefined ? [make] : [make, ['ntfslabel', '--force', `--new-serial=${uuid}`, path]]
    }
  }
}

const typeNames = { ext4: 'ext4', xfs: 'xfs', btrfs: 'btrfs', vfat: 'vfat', ntfs: 'ntfs', swap: 'swap' } as const

/**
 * Makes what the place is to hold and gives its UUID, as blkid writes it. Throws Failure `disk-error`, also when something
 * else can be read there afterwards.
 */
export async function makeFileSystem(place: Pick<Place, 'name' | 'device'>, content: Made, signal: AbortSignal) {
  const { path } = place.device
  const type = content.kind === 'swap' ? 'swap' : content.filesystem
  for (const command of commandsFor(content, place.device)) {
    await runTool(`make ${type} in \`${place.name}\` (${path})`, command, { signal, timeoutMs: makeTimeoutMs })
  }
  const found = await readSignature(path, signal)
  const differs = (name: string, wanted: string | undefined, is: string | undefined) =>
    wanted === undefined || wanted.toLowerCase() === is?.toLowerCase() ? [] : [`its ${name} is ${is}, not ${wanted}`]
  const problems = [
    ...differs('type', typeNames[type], found.type),
    ...differs('UUID', content.uuid, found.uuid),
    ...differs('label', content.label, found.label),
  ]
  if (problems.length > 0 || found.uuid === undefined) {
    const words = problems.join(', ') || 'it has no UUID'
    throw new Failure('disk-error', `${type} in \`${place.name}\` (${path}) was made and reads otherwise: ${words}`)
  }
  return found.uuid
}
