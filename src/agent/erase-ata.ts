// Secure erase of an ATA disk by hdparm (ACS-3, 7.47 SECURITY ERASE UNIT): the drive is given a password, which the erase takes away.
import { execa } from 'execa'
import { Failure } from '../model/failure.ts'
import { type Means, notOffered } from './erase-means.ts'
import type { SeenDisk } from './inventory.ts'

const toolTimeoutMs = 60_000
/** Where the drive does not say how long it takes, and beside what it says. */
const eraseMsUnknown = 12 * 3_600_000
const eraseMsMore = 1_800_000

/** No secret: a drive that lost its power in the middle is locked by it, and this word unlocks it. */
const password = 'hades'

export type AtaSecurity = {
  readonly isSupported: boolean
  readonly isEnabled: boolean
  readonly isLocked: boolean
  readonly isFrozen: boolean
  readonly hasEnhanced: boolean
  /** As the drive says; undefined where it does not. */
  readonly minutes: number | undefined
  readonly enhancedMinutes: number | undefined
}

/** Reads the part `Security` of what `hdparm -I` prints. Without one the drive has no such feature. */
export function parseSecurity(text: string): AtaSecurity {
  const section = /^Security:[^\n]*\n((?:[ \t]+[^\n]*\n?)*)/m.exec(text)?.[1] ?? ''
  const lines = section.split('\n').map((line) => line.trim().replace(/\s+/g, ' '))
  const minutes = (what: string): number | undefined => {
    const found = new RegExp(`(?:^|\\. )(?:more than )?(\\d+)min for ${what}`, 'm').exec(lines.join('\n'))?.[1]
    return found === undefined ? undefined : Number(found)
  }
  return {
    isSupported: lines.includes('supported'),
    isEnabled: lines.includes('enabled'),
    isLocked: lines.includes('locked'),
    isFrozen: lines.includes('frozen'),
    hasEnhanced: lines.includes('supported: enhanced erase'),
    minutes: minutes('SECURITY ERASE UNIT'),
    enhancedMinutes: minutes('ENHANCED SECURITY ERASE UNIT'),
  }
}

/** Enhanced where the drive has it. Throws Failure `bad-input` when it has none, or its firmware shuts it. */
export async function ataSecureErase(disk: SeenDisk, signal: AbortSignal): Promise<Means> {
  const security = parseSecurity(await hdparm(['-I', disk.path], signal))
  if (!security.isSupported) throw notOffered(disk, 'secure', 'it has no ATA security feature')
  if (security.isFrozen) {
    throw notOffered(
      disk,
      'secure',
      'its security is frozen, as firmware does when a machine starts: look for a setting of the firmware, plug the disk in while it runs',
    )
  }
  if (security.isLocked || security.isEnabled) {
    throw notOffered(disk, 'secure', `a password is set on it (an erase of HaDeS that broke off set \`${password}\`)`)
  }
  const minutes = security.hasEnhanced ? security.enhancedMinutes : security.minutes
  const deadlineMs = minutes === undefined ? eraseMsUnknown : minutes * 120_000 + eraseMsMore
  return {
    words: security.hasEnhanced ? 'ATA enhanced secure erase' : 'ATA secure erase',
    deadlineMs,
    run: (onProgress, signal) => erase(disk, security, { minutes, deadlineMs, onProgress, signal }),
  }
}

async function erase(
  { path }: SeenDisk,
  { hasEnhanced }: AtaSecurity,
  run: {
    readonly minutes: number | undefined
    readonly deadlineMs: number
    readonly onProgress: (part: number) => void
    readonly signal: AbortSignal
  },
): Promise<void> {
  const { signal } = run
  const user = ['--user-master', 'u']
  await hdparm([...user, '--security-set-pass', password, path], signal)
  const beganMs = performance.now()
  // The drive tells nothing before its end: what it said that it takes is all there is to go by.
  const tick = setInterval(() => {
    if (run.minutes !== undefined)
      run.onProgress(Math.min(0.99, (performance.now() - beganMs) / (run.minutes * 60_000)))
  }, 1000)
  try {
    const command = hasEnhanced ? '--security-erase-enhanced' : '--security-erase'
    await hdparm([...user, command, password, path], signal, run.deadlineMs)
  } catch (error) {
    signal.throwIfAborted()
    // Best effort: a drive that refused must not stay locked behind a word that nobody set.
    await hdparm([...user, '--security-disable', password, path], AbortSignal.timeout(toolTimeoutMs)).catch(
      () => undefined,
    )
    throw error
  } finally {
    clearInterval(tick)
  }
  const after = parseSecurity(await hdparm(['-I', path], signal))
  if (after.isEnabled || after.isLocked) {
    throw new Failure('disk-error', `${path} ended its secure erase and still has the password \`${password}\``)
  }
}

async function hdparm(args: readonly string[], signal: AbortSignal, timeoutMs = toolTimeoutMs): Promise<string> {
  const options = { cancelSignal: signal, timeout: timeoutMs, stdin: 'ignore' } as const
  try {
    const { stdout, stderr } = await execa('hdparm', args, options)
    // It says what the drive refused, and ends as if nothing was.
    if (/SG_IO: bad\/missing sense data|Input\/output error|I\/O error/.test(stderr)) throw new Error(stderr.trim())
    return `${stdout}\n`
  } catch (cause) {
    signal.throwIfAborted()
    throw new Failure('disk-error', `hdparm ${args.filter((word) => word !== password).join(' ')}`, { cause })
  }
}
