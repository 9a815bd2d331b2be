// Mounts file systems of a setup below a folder as the new system will have them, and takes them away again.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { mount, unmount } from '../lib/block-devices.ts'
import { Failure, type FailureCode } from '../model/failure.ts'
import type { Place } from './place.ts'

/** The places whose file systems are mounted at or below `top`, in the order to mount them. */
function placesBelow(places: readonly Place[], top: Place): readonly Place[] {
  const mountOf = ({ content }: Place) => (content.kind === 'filesystem' ? content.mount : undefined)
  const base = mountOf(top)
  if (base === undefined) return [top]
  const prefix = base === '/' ? '/' : `${base}/`
  const below = places.filter((place) => {
    // The scout's kernel has no NTFS, and no system keeps its own files there.
    const isMountable = place.content.kind === 'filesystem' && place.content.filesystem !== 'ntfs'
    return isMountable && place.name !== top.name && mountOf(place)?.startsWith(prefix)
  })
  return [top, ...below.sort((a, b) => (mountOf(a)?.length ?? 0) - (mountOf(b)?.length ?? 0))]
}

type MountCall = { readonly how: readonly string[]; readonly at: string; readonly code?: FailureCode }

/** Mounts. Throws Failure `code` with the sentence `what`, or the reason of `signal`; then nothing is mounted there. */
export async function bringIn(
  what: string,
  { how, at, code = 'disk-error' }: MountCall,
  signal: AbortSignal,
): Promise<void> {
  try {
    await mount(how, at, signal)
  } catch (cause) {
    signal.throwIfAborted()
    throw new Failure(code, what, { cause })
  }
}

/** Unmounts. Throws Failure `disk-error` when it stays in use: what was written may not be on the disk. */
export async function letGo(at: string): Promise<void> {
  try {
    await unmount(at)
  } catch (cause) {
    throw new Failure('disk-error', `${at} cannot be unmounted`, { cause })
  }
}

export type Mounting = { readonly places: readonly Place[]; readonly top: Place; readonly folder: string }

/**
 * Mounts `top` at `folder` and what belongs below it there, does `work`, and takes everything away again, the last first.
 * Throws Failure `disk-error` when something cannot be mounted or stays in use, or what `work` throws.
 */
export async function whileMounted<T>(mounting: Mounting, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  const done: string[] = []
  const unmountAll = async () => {
    for (let at = done.at(-1); at !== undefined; at = done.at(-1)) {
      await letGo(at)
      done.pop()
    }
  }
  try {
    await mountAll(mounting, done, signal)
    const result = await work()
    await unmountAll()
    return result
  } catch (error) {
    // What went wrong first is what is told.
    await unmountAll().catch(() => undefined)
    throw error
  }
}

async function mountAll({ places, top, folder }: Mounting, done: string[], signal: AbortSignal): Promise<void> {
  const base = top.content.kind === 'filesystem' ? (top.content.mount ?? '/') : '/'
  for (const { name, content, device } of placesBelow(places, top)) {
    if (content.kind !== 'filesystem') continue
    const at = join(folder, (content.mount ?? base).slice(base.length))
    await mkdir(at, { recursive: true })
    const type = content.filesystem
    await bringIn(`mount \`${name}\` (${device.path}) at ${at}`, { how: ['-t', type, device.path], at }, signal)
    done.push(at)
  }
}
