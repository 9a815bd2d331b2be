// What a published image is: `image.zst`, independent zstd frames of `frameSizeBytes` of disk each with a standard seek
// table behind them, and the manifest that tells where each frame is and what it must hash to. The image's identity is
// the SHA-256 of the manifest's bytes, so whoever knows the digest can check everything else.
import { Failure } from './failure.ts'

/** Disk bytes in one frame. The last frame of an image may be shorter. */
export const frameSizeBytes = 4 * 1024 * 1024

/** What an image reproduces: a whole disk, what lies in one partition, or a root file system as a tar archive. */
export const imageKinds = ['disk', 'partition', 'tar'] as const
export type ImageKind = (typeof imageKinds)[number]

/** In which order images are listed. */
export const imageSorts = ['name', 'newest', 'largest'] as const
export type ImageSort = (typeof imageSorts)[number]

/** The grain in which a file system's free space is left out, in bytes. */
export const blockBytes = 4096

/** Runs of blocks that one frame says are to be written, at most: the rest of its free space is written as zeros. */
export const blockRunsMax = 16

/** A run of blocks of a frame: its first, and how many. */
export type BlockRun = readonly [first: number, count: number]

/**
 * One frame, in disk order. `zero` must read as zeros on the target (its frame in image.zst is an ordinary frame, which
 * nobody needs to fetch). `free` may read as anything: a file system of the image says that nothing is there. SHA-256 in
 * lower-case hex.
 */
export type ManifestFrame =
  | {
      readonly class: 'data'
      /** Where the compressed frame starts in image.zst, and its length. */
      readonly offset: number
      readonly length: number
      /** Of the compressed frame: checked before it is inflated or passed on. */
      readonly sha256: string
      /** Of the disk bytes, free ones taken for zeros: checked when what was written is read back. */
      readonly rawSha256: string
      /** What must be written, where that is not all: the blocks between are free, and zero in the frame. In order. */
      readonly extents?: readonly BlockRun[]
    }
  | { readonly class: 'zero' | 'free'; readonly offset: number; readonly length: number }

export type Manifest = {
  /** 1 knows neither kinds nor free space. */
  readonly format: 1 | 2
  /** In format 2 only. */
  readonly kind?: ImageKind
  /** Size of the disk that the image reproduces, in bytes. */
  readonly sizeBytes: number
  readonly frameSizeBytes: number
  /** Size of image.zst, in bytes. */
  readonly storedBytes: number
  /** Logical sector size that the image's partition table assumes. */
  readonly sectorBytes: 512 | 4096
  readonly frames: readonly ManifestFrame[]
}

/** What a manifest reproduces; in format 1 there were only disks. */
export function kindOf(manifest: Pick<Manifest, 'kind'>): ImageKind {
  return manifest.kind ?? 'disk'
}

/** `name:version`, as people write it. */
export type ImageReference = { readonly name: string; readonly version: string }

const referencePart = /^[a-z0-9][a-z0-9._-]{0,127}$/

/**
 * Reads `name:version`, as in `debian:12`: each part of `a-z 0-9 . _ -`, starting with a letter or digit, at most 128
 * characters. Throws Failure `bad-input` with the sentence that mends it.
 */
export function parseImageReference(text: string): ImageReference {
  const [name = '', version, ...more] = text.split(':')
  const bad = (fix: string) =>
    new Failure('bad-input', `image ${JSON.stringify(text.slice(0, 300))} ${fix}`, { at: 'image' })
  if (more.length > 0) throw bad('has more than one colon: write name:version, such as debian:12')
  if (!referencePart.test(name)) {
    throw bad(
      `does not start with a name: write name:version, both of a-z 0-9 . _ - and starting with a letter or digit`,
    )
  }
  if (version === undefined || version === '') throw bad(`has no version: write ${name}:<version>, such as ${name}:1`)
  if (!referencePart.test(version)) {
    throw bad(`has a version that is not of a-z 0-9 . _ - starting with a letter or digit: write such as ${name}:1`)
  }
  return { name, version }
}

/** The inverse of `parseImageReference`. */
export function formatImageReference(reference: ImageReference): string {
  return `${reference.name}:${reference.version}`
}
