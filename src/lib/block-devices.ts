// Loop devices and mounts that are gone when we say so. Whatever scans the machine (blkid, lsblk, udev) opens every block
// device for a moment: then `losetup --detach` only promises to detach it later, and `umount` finds it busy.
import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { execa } from 'execa'
import { until } from './until.ts'

const attachTimeoutMs = 60_000
/** A journal of the largest size is replayed meanwhile. */
const mountTimeoutMs = 120_000
const goneTimeoutMs = 20_000
/** Unmounting brings to the disk what was written: a full cache, on a slow one. */
const unmountTimeoutMs = 1_800_000
const unmountTries = 40
const pauseMs = 250

export type LoopDevice = {
  /** Such as `/dev/loop3`. */
  readonly device: string
  /** Gives the device back, and returns when it holds its file no longer. */
  readonly detach: () => Promise<void>
}

/**
 * A loop device over a file or a device, by options of losetup(8). Throws a plain Error when there can be none, or the reason of
 * `signal`.
 */
export async function openLoop(
  path: string,
  options: readonly string[] = [],
  signal?: AbortSignal,
): Promise<LoopDevice> {
  const common = { timeout: attachTimeoutMs, stdin: 'ignore' } as const
  signal?.throwIfAborted()
  // Not ended by the signal: whoever is ended may have attached it already, and could not say which.
  const { stdout } = await execa('losetup', ['--find', '--show', ...options, path], common)
  const device = stdout.trim()
  const held = await heldBy(device)
  const detach = async () => {
    // Not with anybody's signal: what was attached must go also when the work was stopped.
    await execa('losetup', ['--detach', device], common)
    // The next who looks for a device may have it already.
    const isGone = async () => (await heldBy(device))?.startsWith(held ?? '') !== true
    await until(`${device} to let ${path} go`, isGone, { timeoutMs: goneTimeoutMs })
  }
  if (signal?.aborted) {
    await detach()
    signal.throwIfAborted()
  }
  return { device, detach }
}

/** What a loop device stands for now, with ` (deleted)` behind what was removed; undefined when for nothing. */
async function heldBy(device: string): Promise<string | undefined> {
  try {
    return (await readFile(`/sys/block/${basename(device)}/loop/backing_file`, 'utf8')).trim()
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    // ENXIO: it was let go while we asked.
    if (code === 'ENOENT' || code === 'ENXIO') return undefined
    throw error
  }
}

/**
 * Mounts at `at`, where nothing is mounted, by options and source of mount(8). Throws a plain Error or the reason of `signal`,
 * and then nothing is mounted there.
 */
export async function mount(how: readonly string[], at: string, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted()
  // Not ended by the signal: whoever is ended may have mounted already.
  const result = await execa('mount', [...how, at], { timeout: mountTimeoutMs, stdin: 'ignore', reject: false })
  if (result.timedOut) await execa('umount', ['--lazy', at], { timeout: attachTimeoutMs, reject: false })
  if (result.failed) throw new Error(result.stderr.trim() || result.shortMessage)
  if (!signal?.aborted) return
  await unmount(at)
  signal.throwIfAborted()
}

/** Unmounts, and waits for who still holds a file there. Throws a plain Error when it stays in use. */
export async function unmount(at: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    const result = await execa('umount', [at], { timeout: unmountTimeoutMs, stdin: 'ignore', reject: false })
    if (!result.failed) return
    if (tries === unmountTries || !result.stderr.includes('busy')) {
      throw new Error(result.stderr.trim() || result.shortMessage)
    }
    await delay(pauseMs)
  }
}
