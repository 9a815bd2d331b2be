// A root file system as an image: the plain tar archive, checked to its last byte before it is published; and a folder made
// into one by GNU tar, with numeric owners, extended attributes and holes.
import { Failure } from '../model/failure.ts'
import { type TarCounts, TarReader } from '../protocol/tar.ts'
import { type Limits, outputOf } from './child.ts'
import type { Content } from './volume.ts'

const readBytes = 1024 * 1024
const limits: Limits = { memoryBytes: 1024 ** 3, cpuSeconds: 24 * 3600 }

/** Reads all of an archive. Throws Failure `image-broken` when it must not be unpacked, or the signal's reason. */
export async function checkTar(
  content: Content,
  options: { readonly allowsDevices: boolean; readonly signal: AbortSignal },
): Promise<TarCounts> {
  const reader = new TarReader(options)
  const judge = <T>(step: () => T): T => {
    try {
      return step()
    } catch (cause) {
      throw new Failure('image-broken', 'the tar archive cannot be published', { cause })
    }
  }
  for (let at = 0; at < content.sizeBytes; at += readBytes) {
    options.signal.throwIfAborted()
    const bytes = await content.read(at, Math.min(readBytes, content.sizeBytes - at))
    judge(() => reader.push(bytes))
  }
  return judge(() => reader.end())
}

/** The archive of all that is in `folder`, on its own file system. Throws Failure `image-broken`. */
export async function* tarOf(folder: string, signal: AbortSignal): AsyncGenerator<Buffer, void, void> {
  const how = [
    '--format=posix',
    '--numeric-owner',
    '--xattrs',
    '--acls',
    '--sparse',
    '--sort=name',
    '--one-file-system',
  ]
  // The times of access and change would make every archive of one folder another.
  const steady = '--pax-option=delete=atime,delete=ctime'
  const command = ['tar', '--create', ...how, steady, `--directory=${folder}`, '.'] as const
  try {
    yield* outputOf(['tar', ...command.slice(1)], { limits, signal })
  } catch (cause) {
    if (cause instanceof Failure || signal.aborted) throw cause
    throw new Failure('image-broken', `the folder ${folder} cannot be packed, or changed meanwhile`, { cause })
  }
}
