// Tells systemd how the service is (sd_notify(3)): ready, stopping, and alive now and then. Node has no datagram sockets of the
// file system, so systemd's own program speaks; without a socket in the environment there is nobody to tell.
import { execa } from 'execa'
import type { Logger } from 'pino'

/** A program that only writes to a socket; a machine in trouble may take long to start one. */
const tellMsMax = 10_000

export type Notifier = {
  readonly ready: () => Promise<void>
  readonly stopping: () => Promise<void>
  readonly close: () => void
}

/** `env` is the environment of this process: NOTIFY_SOCKET, WATCHDOG_USEC. The watchdog is fed from `ready` on. */
export function systemdNotifier(
  env: Readonly<Record<string, string | undefined>>,
  log: Pick<Logger, 'warn'>,
): Notifier {
  const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: watchdog } = env
  let feeding: NodeJS.Timeout | undefined
  const tell = async (...what: readonly string[]): Promise<void> => {
    if (socket === undefined) return
    try {
      await execa('systemd-notify', [`--pid=${process.pid}`, ...what], { env: { ...env }, timeout: tellMsMax })
    } catch (error) {
      log.warn({ err: error, told: what }, 'systemd could not be told')
    }
  }
  return {
    async ready() {
      await tell('--ready', '--status=all services are up')
      const everyMs = Number(watchdog) / 1000 / 2
      if (socket === undefined || !(everyMs >= 100)) return
      // A loop of events that does not turn feeds nothing, which is what the watchdog is for.
      feeding = setInterval(() => void tell('WATCHDOG=1'), everyMs)
      feeding.unref()
    },
    stopping: () => tell('STOPPING=1', '--status=finishing what is under way'),
    close: () => clearInterval(feeding),
  }
}
