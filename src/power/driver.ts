// What a way to switch a machine's power must do. One implementation a file, listed in drivers.ts, held to its promises
// by driver.conformance.ts. Queues, retries, deadlines and the belief in an answer are not a driver's: see control.ts.
import { Failure } from '../model/failure.ts'
import type { BootDevice, PowerAction, PowerMethod, PowerState } from '../model/power.ts'

/** What a driver is asked to do. A cycle is an `off` and an `on` that control.ts reads back one by one. */
export type SwitchAction = Exclude<PowerAction, 'cycle'>

/** What the firmware shall try first at the next power-on only. `efi`: boot it as UEFI, not in legacy BIOS mode. */
export type BootOnce = { readonly device: BootDevice; readonly efi: boolean }

/** What a controller says about the next boot: `other` is a device or none that we never ask for; `unknown`: it cannot say. */
export type BootOverride = { readonly device: BootDevice | 'other' | 'unknown'; readonly once: boolean }

/**
 * One way to switch a machine's power. Keeps no state between calls, and asks the controller once a call: whoever calls
 * decides about repeating. Every method but `check` fails with a Failure whose texts hold no password:
 * `bmc-unreachable` when the controller was silent or busy (asking again may help), `bmc-refused` when it answered and
 * would not, with `at` naming what was wrong with the login: `username` or `password` (asking again may lock the account),
 * `login` or an option.
 * An aborted `signal` ends the call soon, with a Failure `cancelled`.
 */
export interface PowerDriver {
  /** Throws a Failure `bad-input` with `at` when this driver cannot use the method as written. Asks nobody. */
  check(method: PowerMethod): void
  /** Asks the controller now; never answers from a cache. `unknown`: this driver has no way to look. */
  status(method: PowerMethod, signal: AbortSignal): Promise<PowerState>
  /** Resolves when the controller has accepted, which is not yet done. `on` when on and `off` when off are no failures. */
  apply(method: PowerMethod, action: SwitchAction, signal: AbortSignal): Promise<void>
  /** Asks the running system to switch the machine off (ACPI); resolves when the controller has passed it on. */
  shutDown?(method: PowerMethod, signal: AbortSignal): Promise<void>
  /** Asks for the device of the next boot, then tells what the controller says it will do. */
  setBootDevice?(method: PowerMethod, boot: BootOnce, signal: AbortSignal): Promise<BootOverride>
}

/** Whether the controller refused who we say we are: the one failure that must never be tried again by itself. */
export function isLoginRefused(error: unknown): error is Failure {
  return (
    error instanceof Failure && error.code === 'bmc-refused' && (error.at === 'username' || error.at === 'password')
  )
}

/** Throws a Failure `bad-input` at the first option of the method that is not in `known`. */
export function refuseUnknownOptions(method: PowerMethod, known: readonly string[]): void {
  for (const name of Object.keys(method.options)) {
    if (known.includes(name)) continue
    const choice = known.length === 0 ? 'it has none' : `it has ${known.join(', ')}`
    throw new Failure('bad-input', `driver ${method.driver} has no option \`${name}\`: ${choice}`, {
      at: `options.${name}`,
    })
  }
}
