// Mounts file systems of a setup below a folder as the new system will have them, and takes them away again.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Place } from './place.ts'
import { runTool } from './tool.ts'

/** The kernel's name of a type, where it is another. */
const kernelTypes: Readonly<Record<string, string>> = { ntfs: 'ntfs3' }

export type Mounted = {
  readonly folder: string
  /** Takes everything away, the last first. Throws Failure `disk-error` when something is still in use. */
  unmount(signal: AbortSignal): Promise<void>
}

/** The places whose file systems are mounted at or below `top`, in the order to mount them. */
export function placesBelow(places: readonly Place[], top: Place): readonly Place[] {
  const mountOf = ({ content }: Place) => (content.kind === 'filesystem' ? content.mount : undefined)
  const base = mountOf(top)
  if (base === undefined) return [top]
  const prefix = base === '/' ? '/' : `${base}/`
  const below = places.filter((place) => place !== top && place.name !== top.name && mountOf(place)?.startsWith(prefix))
  return [top, ...below.sort((a, b) => (mountOf(a)?.length ?? 0) - (mountOf(b)?.length ?? 0))]
}

/** Mounts `top` at `folder` and what belongs below it there. Throws Failure `disk-error`; then nothing is mounted. */
export async function mountTree(
  places: readonly Place[],
  top: Place,
  { folder, signal }: { folder: string; signal: AbortSignal },
): Promise<Mounted> {
  const done: string[] = []
  const unmount = async (signal: AbortSignal) => {
    for (let at = done.at(-1); at !== undefined; at = done.at(-1)) {
      await runTool(`unmount ${at}`, ['umount', at], { signal })
      done.pop()
    }
  }
  try {
    const base = top.content.kind === 'filesystem' ? (top.content.mount ?? '/') : '/'
    for (const { name, content, device } of placesBelow(places, top)) {
      if (content.kind !== 'filesystem') continue
      const at = join(folder, (content.mount ?? base).slice(base.length))
      await mkdir(at, { recursive: true })
      const type = kernelTypes[content.filesystem] ?? content.filesystem
      await runTool(`mount \`${name}\` (${device.path}) at ${at}`, ['mount', '-t', type, device.path, at], { signal })
      done.push(at)
    }
    return { folder, unmount }
  } catch (error) {
    await unmount(AbortSignal.timeout(60_000)).catch(() => undefined)
    throw error
  }
}
