// The last thing the agent does with a machine whose disk is proven. Only main/agentd.ts calls it, after the service has
// accepted the proof.
import { writeFile } from 'node:fs/promises'
import { execa } from 'execa'
import type { FinalAction } from '../model/deployment.ts'
import type { Log } from './log.ts'

const commandTimeoutMs = 60_000

/** How a machine is ended; of `kexec` the kernel has been loaded before. */
export type MachineEnd = Exclude<FinalAction, 'stay'>

/** Syncs and ends the machine. Resolves when that was asked for; the machine goes down at some moment after. */
export async function endMachine(action: MachineEnd, log: Log): Promise<void> {
  const options = { timeout: commandTimeoutMs, stdin: 'ignore' } as const
  await execa('sync', [], options).catch((error: unknown) => log.failure('sync', error))
  if (action === 'kexec') {
    // Only returns when it failed.
    const failed = await execa('kexec', ['--exec'], options).catch((error: unknown) => error)
    log.failure('the loaded kernel does not start, the machine reboots', failed)
    action = 'reboot'
  }
  // -f asks the kernel without an init: the scout runs from RAM and has nothing to shut down in order. The kernel itself
  // quiets its devices first, which sysrq does not.
  await execa('busybox', [action, '-f'], options).catch(async (error: unknown) => {
    log.failure(`${action} -f failed, asking the kernel itself`, error)
    await writeFile('/proc/sysrq-trigger', action === 'reboot' ? 'b' : 'o')
  })
}
