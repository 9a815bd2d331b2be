// The block map of an image (.bmap, version 2.0 of the format of bmap-tools): which blocks of a disk must be written, and
// what each run of them hashes to. `bmaptool copy` writes nothing else: a block that must read as zeros has to be mapped,
// because nobody knows what the target holds there.
import { createHash } from 'node:crypto'
import { Markup, xml } from '../lib/xml.ts'

/** Bytes of the disk that must be written. Whole blocks, but for the last of the disk. */
export type MappedRange = {
  readonly offset: number
  readonly length: number
  /** Of these bytes of the disk, lower-case hex. */
  readonly sha256: string
}

export const bmapBlockBytes = 4096

/** Encodes the map of a disk of `sizeBytes`; the ranges stand in the order of the disk. */
export function encodeBmap(disk: { readonly sizeBytes: number; readonly ranges: readonly MappedRange[] }): Buffer {
  let mapped = 0
  let endOfLast = 0
  const lines = disk.ranges.map(({ offset, length, sha256 }) => {
    const end = offset + length
    const isWhole = offset % bmapBlockBytes === 0 && (length % bmapBlockBytes === 0 || end === disk.sizeBytes)
    if (!isWhole || length < 1 || offset < endOfLast || end > disk.sizeBytes) {
      throw new Error(`a block map cannot have ${length} bytes at ${offset} of ${disk.sizeBytes}`)
    }
    endOfLast = end
    const first = offset / bmapBlockBytes
    const last = Math.ceil(end / bmapBlockBytes) - 1
    mapped += last - first + 1
    return `        <Range chksum="${sha256}"> ${first === last ? first : `${first}-${last}`} </Range>\n`
  })
  const map = new Markup(lines.join(''))
  // The checksum of the file is computed with zeros in its own place.
  const noChecksum = '0'.repeat(64)
  const checksum = createHash('sha256')
    .update(bmapText(disk.sizeBytes, mapped, map, noChecksum))
    .digest('hex')
  return Buffer.from(bmapText(disk.sizeBytes, mapped, map, checksum))
}

function bmapText(sizeBytes: number, mapped: number, map: Markup, checksum: string): string {
  const document = xml`<?xml version="1.0" ?>
<bmap version="2.0">
    <ImageSize> ${sizeBytes} </ImageSize>
    <BlockSize> ${bmapBlockBytes} </BlockSize>
    <BlocksCount> ${Math.ceil(sizeBytes / bmapBlockBytes)} </BlocksCount>
    <MappedBlocksCount> ${mapped} </MappedBlocksCount>
    <ChecksumType> sha256 </ChecksumType>
    <BmapFileChecksum> ${checksum} </BmapFileChecksum>
    <BlockMap>
${map}    </BlockMap>
</bmap>
`
  return document.toString()
}
