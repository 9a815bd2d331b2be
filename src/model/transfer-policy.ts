// What an operator may say of a transfer: the engine, how fast hosts may send and receive, how long they stay as sources.
// A setup says it for its hosts, a rollout overrides it.
import type { TransferEngine } from './swarm.ts'

/** Caps in bytes a second; what is undefined is not limited. */
export type RateLimits = {
  readonly egressBytesPerSecond: number | undefined
  readonly ingressBytesPerSecond: number | undefined
}

export type TransferPolicy = RateLimits & {
  readonly engine: TransferEngine
  /** The longest that a host stays as a source when its disk is proven. */
  readonly lingerSeconds: number
}

/** A minute is long enough for hosts that began a little later, and short beside the reboot of a server. */
export const defaultTransferPolicy: TransferPolicy = {
  engine: 'swarm',
  lingerSeconds: 60,
  egressBytesPerSecond: undefined,
  ingressBytesPerSecond: undefined,
}

/** Slower than this nothing is ever meant to be: a limit below it is a slip of the pen. */
export const bytesPerSecondMin = 1000

/** Longer no host stays as a source: it is wanted for its own work. */
export const lingerSecondsMax = 86_400
