// Prepares the start of the new system's kernel without the firmware: found in its root, loaded into memory while the root
// is mounted. Only src/agent/finish.ts starts it.
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { causeChain } from '../../model/failure.ts'
import type { Log } from '../log.ts'
import type { Place } from '../place.ts'
import { run } from './command.ts'
import { seeFileSystems } from './file-systems.ts'
import { findRoot } from './find-root.ts'
import { findKernel } from './kernel.ts'
import { openTarget } from './target.ts'

const loadTimeoutMs = 120_000
/** Bound of the contract's event. */
const textCharactersMax = 4000

/**
 * Loads the kernel, so that kexec can start it, or says why the machine has to reboot. That costs the time of the firmware,
 * and is no failure.
 */
export async function kexecOrReboot(
  places: readonly Place[],
  by: {
    readonly root: string | undefined
    readonly tell: (kind: string, text: string) => Promise<unknown>
    readonly log: Log
  },
  signal: AbortSignal,
): Promise<'kexec' | 'reboot'> {
  const { root, tell, log } = by
  try {
    await tell('kexec', (await loadKernel(places, root, signal)).slice(0, textCharactersMax))
    return 'kexec'
  } catch (error) {
    signal.throwIfAborted()
    log.failure('kexec is not possible, the machine reboots instead', error)
    const why = causeChain(error).join(': ')
    await tell('kexec-failed', `the machine reboots instead: ${why}`.slice(0, textCharactersMax))
    return 'reboot'
  }
}

/** Says which kernel, in words. */
async function loadKernel(places: readonly Place[], root: string | undefined, signal: AbortSignal): Promise<string> {
  const seen = await seeFileSystems(places, signal)
  const target = await openTarget(await findRoot(seen, root, signal), seen, { isReadOnly: true }, signal)
  const folder = await mkdtemp(join(tmpdir(), 'hades-kexec-'))
  try {
    const { tree } = target
    const kernel = await findKernel(tree)
    if (typeof kernel === 'string') throw new Error(kernel)
    const { path } = await tree.locate(kernel.image)
    const initrds = await Promise.all(kernel.initrds.map(async (name) => (await tree.locate(name)).path))
    // kexec takes one: the kernel reads several, one behind the other, as one.
    const initrd = join(folder, 'initrd')
    for (const part of initrds) await pipeline(createReadStream(part), createWriteStream(initrd, { flags: 'a' }))
    // -a: by the newer call, which checks signatures under Secure Boot, and by the older one where there is no newer.
    const options = ['-a', '--load', path, `--command-line=${kernel.commandLine}`]
    const command = ['kexec', ...options, ...(initrds.length === 0 ? [] : [`--initrd=${initrd}`])]
    await run(`load the kernel ${kernel.image}`, command, signal, { timeoutMs: loadTimeoutMs })
    return `${kernel.image} of ${kernel.source} is loaded: ${kernel.commandLine}`
  } finally {
    await rm(folder, { recursive: true })
    await target.close()
  }
}
