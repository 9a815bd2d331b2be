// What no layout may say, found before any disk is known: pure, each rule a sentence. What depends on the size of a disk
// is for the agent, and for the plan of a rollout where the disk is known.
import { type Content, type Layout, type LayoutDisk, type Partition, placesOf, type Size } from './layout.ts'

export type LayoutProblem = { readonly place: string; readonly sentence: string }

/** Primary partitions of an MBR; logical ones are not made. */
const mbrPartitionsMax = 4
const membersMin = { '0': 2, '1': 2, '10': 2 } as const

/** The first thing that is wrong with the layout; undefined when nothing is. */
export function checkLayout(layout: Layout): LayoutProblem | undefined {
  return (
    twice(layout) ??
    layout.disks.map(checkDisk).find((problem) => problem !== undefined) ??
    checkGrowing(layout) ??
    checkMembers(layout) ??
    checkContents(layout) ??
    checkImages(layout)
  )
}

function twice(layout: Layout): LayoutProblem | undefined {
  const seen = new Set<string>()
  const names = [...layout.disks, ...layout.arrays, ...layout.groups].map(({ name }) => name)
  const places = placesOf(layout).map(({ place }) => place)
  // A disk with content is a place too, and so is an array.
  for (const place of [...names, ...places.filter((place) => !names.includes(place))]) {
    if (seen.has(place)) {
      return {
        place,
        sentence: `\`${place}\` is there twice: give each disk, partition, array and volume its own name`,
      }
    }
    seen.add(place)
  }
  return undefined
}

function checkDisk(disk: LayoutDisk): LayoutProblem | undefined {
  const { name, table, partitions } = disk
  if (table === undefined) {
    if (disk.content?.kind === 'empty') return { place: name, sentence: `disk \`${name}\` has no content` }
    return disk.content?.kind === 'keep' && disk.erase !== 'none'
      ? { place: name, sentence: `disk \`${name}\` cannot be both kept and erased` }
      : undefined
  }
  if (table === 'keep' && disk.erase !== 'none') {
    return { place: name, sentence: `disk \`${name}\` keeps its table and cannot be erased` }
  }
  let end = 0
  for (const partition of partitions) {
    const place = `${name}:${partition.number}`
    const sentence = problemOfPartition(table, partition, end)
    if (sentence !== undefined) return { place, sentence: `partition ${partition.number} of \`${name}\` ${sentence}` }
    end = partition.sizeBytes === undefined ? end : Math.max(end, partition.startBytes ?? end) + partition.sizeBytes
  }
  if (table === 'mbr' && partitions.length > mbrPartitionsMax) {
    return { place: name, sentence: `an MBR has at most ${mbrPartitionsMax} partitions here: take gpt` }
  }
  return undefined
}

function problemOfPartition(
  table: 'gpt' | 'mbr' | 'keep',
  partition: Partition,
  endBefore: number,
): string | undefined {
  const isNew = table !== 'keep'
  const { kind } = partition.content
  if (isNew && kind === 'keep') return 'cannot be kept in a table that is new: say type="keep" of the table'
  if (kind === 'keep' && (hasSize(partition) || partition.startBytes !== undefined)) {
    return 'is kept and has a size: leave the size out'
  }
  if (partition.startBytes !== undefined && partition.startBytes < endBefore) {
    return `begins at byte ${partition.startBytes}, inside the one before, which ends at ${endBefore}`
  }
  if (table === 'mbr' && (partition.label !== undefined || partition.uuid !== undefined)) {
    return 'has a label or uuid, which an MBR does not know'
  }
  if (table === 'mbr' && partition.number > mbrPartitionsMax) {
    return `has a number above ${mbrPartitionsMax}, which an MBR does not have here`
  }
  if (table === 'mbr' && ['bios-boot', 'msr'].includes(partition.type))
    return `is ${partition.type}, which only a GPT has`
  if (table === 'mbr' && partition.type.length > 12) return 'has a GUID for its type, which only a GPT has'
  if (table === 'gpt' && partition.type.length === 2) return 'has a two-digit type, which only an MBR has'
  return undefined
}

function hasSize({ sizeBytes, sizePercent }: Size): boolean {
  return sizeBytes !== undefined || sizePercent !== undefined
}

function checkGrowing(layout: Layout): LayoutProblem | undefined {
  for (const { name, table, partitions } of layout.disks) {
    if (table === undefined || table === 'keep') continue
    const problem = problemOfSizes(partitions, (partition) => `${name}:${partition.number}`)
    if (problem !== undefined) return problem
    const growing = partitions.findIndex((partition) => !hasSize(partition))
    const later = partitions.slice(growing + 1)
    if (growing >= 0 && later.some(({ startBytes }) => startBytes !== undefined)) {
      const place = `${name}:${partitions[growing]?.number}`
      return { place, sentence: `partition \`${place}\` grows, and one behind it has a fixed start: give it a size` }
    }
  }
  for (const { name, volumes } of layout.groups) {
    const problem = problemOfSizes(volumes, (volume) => `${name}/${volume.name}`)
    if (problem !== undefined) return problem
  }
  return undefined
}

function problemOfSizes<T extends Size>(parts: readonly T[], placeOf: (part: T) => string): LayoutProblem | undefined {
  const [, second] = parts.filter((part) => !hasSize(part))
  if (second !== undefined) {
    const place = placeOf(second)
    return { place, sentence: `\`${place}\` is the second that grows: only one can take all that is left` }
  }
  const percent = parts.reduce((sum, part) => sum + (part.sizePercent ?? 0), 0)
  const last = parts.findLast((part) => part.sizePercent !== undefined)
  if (percent <= 100 || last === undefined) return undefined
  return { place: placeOf(last), sentence: `the percentages add up to ${percent} %` }
}

function checkMembers(layout: Layout): LayoutProblem | undefined {
  const counts = new Map<string, number>()
  const targets = new Set([...layout.arrays, ...layout.groups].map(({ name }) => name))
  for (const { place, content } of placesOf(layout)) {
    if (content.kind !== 'member') continue
    if (!targets.has(content.of)) {
      return {
        place,
        sentence: `\`${place}\` is a member of \`${content.of}\`, which is no array or group of this setup`,
      }
    }
    if (place.startsWith(`${content.of}/`) || place === content.of) {
      return { place, sentence: `\`${place}\` cannot be a member of itself` }
    }
    const isArray = layout.arrays.some(({ name }) => name === place)
    if (isArray && !layout.groups.some(({ name }) => name === content.of)) {
      return { place, sentence: `array \`${place}\` is a member of an array: only volume groups lie on arrays` }
    }
    if (place.includes('/')) return { place, sentence: `volume \`${place}\` cannot be a member of anything` }
    counts.set(content.of, (counts.get(content.of) ?? 0) + 1)
  }
  for (const { name, level } of layout.arrays) {
    const count = counts.get(name) ?? 0
    if (count < membersMin[level]) {
      return {
        place: name,
        sentence: `array \`${name}\` of level ${level} has ${count} members, it needs ${membersMin[level]}`,
      }
    }
  }
  const empty = layout.groups.find(({ name }) => !counts.has(name))
  return empty && { place: empty.name, sentence: `volume group \`${empty.name}\` has no members` }
}

function checkContents(layout: Layout): LayoutProblem | undefined {
  const mounts = new Map<string, string>()
  for (const { place, content } of placesOf(layout)) {
    const sentence = problemOfContent(content)
    if (sentence !== undefined) return { place, sentence: `\`${place}\`: ${sentence}` }
    if (content.kind !== 'filesystem' || content.mount === undefined) continue
    const other = mounts.get(content.mount)
    if (other !== undefined) return { place, sentence: `\`${other}\` and \`${place}\` both mount at ${content.mount}` }
    mounts.set(content.mount, place)
  }
  return undefined
}

/** The longest label of each, as mkfs takes it. */
const labelMax = { ext4: 16, xfs: 12, btrfs: 16, vfat: 11, ntfs: 16, swap: 15 } as const
const uuidPatterns = { vfat: /^[0-9a-f]{4}-[0-9a-f]{4}$/, ntfs: /^[0-9a-f]{16}$/ } as const
const uuidPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

function problemOfContent(content: Content): string | undefined {
  if (content.kind !== 'filesystem' && content.kind !== 'swap') return undefined
  const type = content.kind === 'swap' ? 'swap' : content.filesystem
  if (content.label !== undefined && content.label.length > labelMax[type]) {
    return `the label \`${content.label}\` is longer than ${type} allows (${labelMax[type]})`
  }
  const pattern = type === 'vfat' || type === 'ntfs' ? uuidPatterns[type] : uuidPattern
  if (content.uuid !== undefined && !pattern.test(content.uuid)) {
    const form = { vfat: 'ABCD-1234', ntfs: '16 hexadecimal digits' }[type as 'vfat' | 'ntfs'] ?? 'a UUID'
    return `the uuid \`${content.uuid}\` is not what ${type} has: ${form}`
  }
  const bringsRoot = content.kind === 'filesystem' && content.image !== undefined
  return bringsRoot && (type === 'vfat' || type === 'ntfs')
    ? `a root file system cannot be unpacked into ${type}: it keeps no owners and modes`
    : undefined
}

function checkImages(layout: Layout): LayoutProblem | undefined {
  const places = placesOf(layout)
  if (places.some(({ content }) => content.kind === 'image' || ('image' in content && content.image !== undefined))) {
    return undefined
  }
  const [disk] = layout.disks
  return { place: disk?.name ?? '', sentence: 'no place of this setup gets an image: name one with `image`' }
}
