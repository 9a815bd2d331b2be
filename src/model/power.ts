// Words of the Power Port: what a machine's power can be, what can be asked of it, and how its controller is reached.
import type { Secret } from '../lib/secret.ts'

/** `unknown` is what a driver says that has no way to look; a driver that tried and could not throws instead. */
export const powerStates = ['on', 'off', 'unknown'] as const
export type PowerState = (typeof powerStates)[number]

/** `cycle` ends on whatever it was before; `reset` is a warm reset of a machine that is on. */
export const powerActions = ['on', 'off', 'cycle', 'reset'] as const
export type PowerAction = (typeof powerActions)[number]

/** What the firmware tries first, once, at the next power-on. */
export const bootDevices = ['network', 'disk', 'firmware'] as const
export type BootDevice = (typeof bootDevices)[number]

/** How one host's controller is reached: one row of power_methods with its secret opened. */
export type PowerMethod = {
  readonly driver: string
  /** host or host:port */
  readonly address: string
  readonly username: string
  readonly password: Secret
  /** Driver-specific, checked by the driver's own parser. */
  readonly options: Readonly<Record<string, string>>
}
