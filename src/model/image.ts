// What a published image is: `image.zst`, independent zstd frames of `frameSizeBytes` of disk each with a standard seek
// table behind them, and the manifest that tells where each frame is and what it must hash to. The image's identity is
// the SHA-256 of the manifest's bytes, so whoever knows the digest can check everything else.
import { Failure } from './failure.ts'

/** Disk bytes in one frame. The last frame of an image may be shorter. */
export const frameSizeBytes = 4 * 1024 * 1024

/**
 * One frame, in disk order. `zero` must read as zeros on the target (its frame in image.zst is an ordinary frame, which
 * nobody needs to fetch). SHA-256 in lower-case hex.
 */
export type ManifestFrame =
  | {
      readonly class: 'data'
      /** Where the compressed frame starts in image.zst, and its length. */
      readonly offset: number
      readonly length: number
      /** Of the compressed frame: checked before it is inflated or passed on. */
      readonly sha256: string
      /** Of the disk bytes: checked when what was written is read back. */
      readonly rawSha256: string
    }
  | { readonly class: 'zero'; readonly offset: number; readonly length: number }

export type Manifest = {
  readonly format: 1
  /** Size of the disk that the image reproduces, in bytes. */
  readonly sizeBytes: number
  readonly frameSizeBytes: number
  /** Size of image.zst, in bytes. */
  readonly storedBytes: number
  /** Logical sector size that the image's partition table assumes. */
  readonly sectorBytes: 512 | 4096
  readonly frames: readonly ManifestFrame[]
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
