// The driver of a machine that only a person can switch. It cannot look and cannot act: asking succeeds, the state stays
// unknown, and so nothing that goes through it is ever reported as confirmed. Whoever asked tells the operator.
import { Failure } from '../model/failure.ts'
import type { PowerMethod } from '../model/power.ts'
import { type PowerDriver, refuseUnknownOptions } from './driver.ts'

export const manual: PowerDriver = {
  check(method) {
    refuseUnknownOptions(method, [])
  },
  async status(method, signal) {
    refuseCancelled(method, signal)
    return 'unknown'
  },
  async apply(method, _action, signal) {
    refuseCancelled(method, signal)
  },
}

function refuseCancelled(method: PowerMethod, signal: AbortSignal): void {
  if (!signal.aborted) return
  throw new Failure('cancelled', `asking the operator at ${method.address} was cancelled`, { cause: signal.reason })
}
