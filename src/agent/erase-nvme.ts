// Secure erase of an NVMe disk: sanitize where the controller can, else a format that erases. What the controller can, and how
// far it is, is read from the structures themselves (NVM Express Base Specification 2.0, figures 275 and 290); nvme-cli carries them.
import { setTimeout as delay } from 'node:timers/promises'
import { execa } from 'execa'
import { Failure } from '../model/failure.ts'
import { type Means, notOffered } from './erase-means.ts'
import type { SeenDisk } from './inventory.ts'

const toolTimeoutMs = 60_000
const watchEveryMs = 1000
/** Controllers say at most an hour or two, for overwriting; block and crypto erase take minutes. */
const sanitizeMsMax = 4 * 3_600_000
const formatMsMax = 2 * 3_600_000

type Abilities = {
  readonly canSanitizeBlocks: boolean
  readonly canSanitizeKey: boolean
  readonly canFormat: boolean
  readonly canFormatKey: boolean
  /** A format that erases does so to every namespace. */
  readonly formatsAll: boolean
}

/** What the Identify Controller structure says. Throws an Error when it is shorter than it must be. */
export function readAbilities(identify: Buffer): Abilities {
  if (identify.length < 4096) throw new Error(`the Identify structure has ${identify.length} bytes, not 4096`)
  const optionalCommands = identify.readUInt16LE(256)
  const sanitize = identify.readUInt32LE(328)
  const format = identify.readUInt8(524)
  return {
    canSanitizeKey: (sanitize & 1) !== 0,
    canSanitizeBlocks: (sanitize & 2) !== 0,
    canFormat: (optionalCommands & 2) !== 0,
    canFormatKey: (format & 4) !== 0,
    formatsAll: (format & 3) !== 0,
  }
}

export type SanitizeState =
  | { readonly state: 'running'; readonly part: number }
  | { readonly state: 'done' | 'failed' | 'never' }

/** What the Sanitize Status log page says. */
export function readSanitizeLog(log: Buffer): SanitizeState {
  if (log.length < 4) throw new Error(`the Sanitize Status log has ${log.length} bytes, not 20`)
  const status = log.readUInt16LE(2) & 7
  if (status === 2) return { state: 'running', part: log.readUInt16LE(0) / 65_536 }
  // 4: done, and the blocks may be deallocated or not whatever was asked.
  return { state: status === 1 || status === 4 ? 'done' : status === 3 ? 'failed' : 'never' }
}

/** The strongest that the controller offers. Throws Failure `bad-input` when it offers none that leaves other disks alone. */
export async function nvmeSecureErase(disk: SeenDisk, signal: AbortSignal): Promise<Means> {
  const { path } = disk
  const controller = path.replace(/n\d+$/, '')
  const abilities = readAbilities(await nvme(['id-ctrl', controller, '--raw-binary'], signal))
  const others = await otherNamespaces(controller, signal)
  const { canSanitizeBlocks, canSanitizeKey, canFormat, canFormatKey, formatsAll } = abilities
  if ((canSanitizeBlocks || canSanitizeKey) && others === 0) {
    const [action, words] = canSanitizeBlocks ? ['2', 'block erase'] : ['4', 'crypto erase']
    return {
      words: `NVMe sanitize (${words})`,
      deadlineMs: sanitizeMsMax,
      run: (onProgress, signal) => sanitize(controller, action, onProgress, signal),
    }
  }
  if (canFormat && (others === 0 || !formatsAll)) {
    const [setting, words] = canFormatKey ? ['2', 'crypto erase'] : ['1', 'user data erase']
    return {
      words: `NVMe format (${words})`,
      deadlineMs: formatMsMax,
      run: async (_, signal) => {
        await nvme(['format', path, `--ses=${setting}`, '--force', `--timeout=${formatMsMax}`], signal, formatMsMax)
      },
    }
  }
  throw notOffered(
    disk,
    'secure',
    canFormat || canSanitizeBlocks || canSanitizeKey
      ? `it would erase the ${others} other namespaces of ${controller} too`
      : 'its controller has neither sanitize nor format',
  )
}

async function sanitize(
  controller: string,
  action: string,
  onProgress: (part: number) => void,
  signal: AbortSignal,
): Promise<void> {
  await nvme(['sanitize', controller, `--sanact=${action}`], signal)
  for (;;) {
    const log = await nvme(['get-log', controller, '--log-id=0x81', '--log-len=20', '--raw-binary'], signal)
    const now = readSanitizeLog(log)
    if (now.state === 'done') return
    if (now.state !== 'running') {
      const what = now.state === 'failed' ? 'says that it failed' : 'says that none was ever begun'
      throw new Failure('disk-error', `${controller} took the sanitize command and ${what}`)
    }
    onProgress(now.part)
    await delay(watchEveryMs, undefined, { signal })
  }
}

/** Namespaces of the controller beside one: 1024 identifiers of four bytes, 0 behind the last. */
async function otherNamespaces(controller: string, signal: AbortSignal): Promise<number> {
  const list = await nvme(
    ['admin-passthru', controller, '--opcode=0x06', '--cdw10=0x02', '--data-len=4096', '--read', '--raw-binary'],
    signal,
  )
  let count = 0
  for (let at = 0; at + 4 <= list.length && list.readUInt32LE(at) !== 0; at += 4) count += 1
  return Math.max(0, count - 1)
}

async function nvme(args: readonly string[], signal: AbortSignal, timeoutMs = toolTimeoutMs): Promise<Buffer> {
  const options = { cancelSignal: signal, timeout: timeoutMs, stdin: 'ignore', encoding: 'buffer' } as const
  try {
    return Buffer.from((await execa('nvme', args, options)).stdout)
  } catch (cause) {
    signal.throwIfAborted()
    throw new Failure('disk-error', `nvme ${args.slice(0, 2).join(' ')}`, { cause })
  }
}
