// The closed table of power drivers. A new driver is one file and one line here.
import { Failure } from '../model/failure.ts'
import type { PowerMethod } from '../model/power.ts'
import type { PowerDriver } from './driver.ts'
import { ipmi } from './ipmi.ts'
import { manual } from './manual.ts'

export const powerDrivers: Readonly<Record<string, PowerDriver>> = { ipmi, manual }

/** The driver of a method, which was checked: throws a Failure `unknown-driver` or `bad-input` with `at`. */
export function driverOf(method: PowerMethod): PowerDriver {
  const driver = Object.hasOwn(powerDrivers, method.driver) ? powerDrivers[method.driver] : undefined
  if (driver === undefined) {
    const known = Object.keys(powerDrivers).join(', ')
    throw new Failure('unknown-driver', `there is no power driver \`${method.driver}\`: there are ${known}`, {
      at: 'driver',
    })
  }
  driver.check(method)
  return driver
}
