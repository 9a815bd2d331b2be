// The Power Port's handlers: the only user of the power drivers. Each host is a row of the answer; one that fails does not
// hold up the others, and nothing is called done that the controller did not say again when asked.
import type { Logger } from 'pino'
import type { Handlers } from '../contract/operation.ts'
import type { powerOperations } from '../contract/power.ts'
import type { PowerOutcome } from '../contract/types.ts'
import { activeDeployments } from '../db/deployments.ts'
import { addEvent } from '../db/events.ts'
import { findHosts, type Host, powerMethodsOf, type StoredPowerMethod } from '../db/hosts.ts'
import type { Keyring } from '../lib/seal.ts'
import { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'
import type { PowerMethod } from '../model/power.ts'
import { readPower, setBootDevice, switchPower, testPowerMethod } from '../power/control.ts'
import { driverOf, powerDrivers } from '../power/drivers.ts'
import { hostsOf } from './nodeset.ts'
import { failureReport, present } from './views.ts'
import type { World } from './world.ts'

/** What the contract takes for a power method. */
type GivenPowerMethod = {
  readonly driver: string
  readonly address?: string
  readonly username?: string
  readonly password?: string
  readonly options: readonly { readonly name: string; readonly value: string }[]
}

/** Checks power methods as their drivers do and seals the passwords. Failures name the method at fault. */
export function storedPowerMethods(keyring: Keyring, methods: readonly GivenPowerMethod[]): StoredPowerMethod[] {
  return methods.map((given, index) => {
    const options = Object.fromEntries(given.options.map(({ name, value }) => [name, value]))
    const method: PowerMethod = {
      driver: given.driver,
      address: given.address ?? '',
      username: given.username ?? '',
      password: new Secret(given.password ?? ''),
      options,
    }
    try {
      driverOf(method)
    } catch (cause) {
      if (!(cause instanceof Failure)) throw cause
      throw new Failure(cause.code, cause.message, { at: `powerMethods[${index}].${cause.at ?? 'driver'}` })
    }
    return {
      driver: method.driver,
      address: method.address,
      username: method.username,
      sealed_password: keyring.seal(method.password),
      options: JSON.stringify(options),
    }
  })
}

function openMethod(keyring: Keyring, stored: StoredPowerMethod): PowerMethod {
  return {
    driver: stored.driver,
    address: stored.address,
    username: stored.username,
    password: keyring.open(stored.sealed_password),
    // Written by `storedPowerMethods` alone.
    options: JSON.parse(stored.options) as Record<string, string>,
  }
}

/** What one host's controller said; the rest of the row is added here. */
type Said = Pick<PowerOutcome, 'state' | 'confirmed'>

export function powerHandlers(world: World): Handlers<typeof powerOperations> {
  const { db } = world
  return {
    async getPower({ nodeset }) {
      return {
        outcomes: await each(world, await hostsOf(db, nodeset), 1, async (method, log) => {
          const state = await readPower(method, { log })
          return { state, confirmed: state !== 'unknown' }
        }),
      }
    },
    async setPower({ nodeset, action, soft = false, offSeconds, method: which = 1 }, _caller, signal) {
      const hosts = await hostsOf(db, nodeset)
      const options = { soft, ...present({ offMs: offSeconds && offSeconds * 1000, signal }) }
      const outcomes = await each(world, hosts, which, async (method, log) => {
        const { reached, confirmed } = await switchPower(method, action, { ...options, log })
        return { state: reached, confirmed }
      })
      await tell(world, hosts, outcomes, `power ${action}`)
      return { outcomes }
    },
    async setBootDevice({ nodeset, device, method: which = 1 }, _caller, signal) {
      const hosts = await hostsOf(db, nodeset)
      const outcomes = await each(world, hosts, which, async (method, log) => {
        const { confirmed } = await setBootDevice(method, device, { log, ...present({ signal }) })
        return { confirmed }
      })
      await tell(world, hosts, outcomes, `boot device ${device}`)
      return { outcomes }
    },
    async testPower({ host }) {
      const hosts = await findHosts(db, [host])
      const [outcome] = await each(world, hosts, 1, async (method, log) => {
        const test = await testPowerMethod(method, { log })
        if (test.works) return { state: test.state, confirmed: true }
        const { failure } = test
        const what = {
          method: 'is not well-formed',
          reach: 'cannot be reached',
          login: 'refuses the login',
          status: 'does not tell its state',
        }
        throw new Failure(failure.code, `the controller ${what[test.failed]}`, { cause: failure })
      })
      if (!outcome) throw new Failure('unknown-host', `there is no host ${host}`, { at: 'host' })
      return { outcome }
    },
    async listPowerDrivers() {
      return { drivers: Object.keys(powerDrivers) }
    },
  }
}

/** Asks every host's power method number `which`, counted from 1. */
async function each(
  { db, keyring, log }: World,
  hosts: readonly Host[],
  which: number,
  ask: (method: PowerMethod, log: Logger) => Promise<Said>,
): Promise<PowerOutcome[]> {
  const methods = await powerMethodsOf(
    db,
    hosts.map((host) => host.id),
  )
  return await Promise.all(
    hosts.map(async (host): Promise<PowerOutcome> => {
      const current = methods.get(host.id)?.[which - 1]
      try {
        if (!current) {
          throw new Failure('no-power-method', `host ${host.name} has no power method${which > 1 ? ` ${which}` : ''}`)
        }
        return {
          host: host.name,
          driver: current.driver,
          ...(await ask(openMethod(keyring, current), log.child({ host: host.name }))),
        }
      } catch (error) {
        if (!(error instanceof Failure)) log.error({ err: error, host: host.name }, 'a power request failed')
        return {
          host: host.name,
          ...(current ? { driver: current.driver } : {}),
          confirmed: false,
          failure: failureReport(error),
        }
      }
    }),
  )
}

async function tell(
  { db, now }: World,
  hosts: readonly Host[],
  outcomes: readonly PowerOutcome[],
  what: string,
): Promise<void> {
  const active = await activeDeployments(
    db,
    hosts.map((host) => host.id),
  )
  for (const [index, host] of hosts.entries()) {
    const outcome = outcomes[index]
    if (!outcome) continue
    const { failure, confirmed, driver } = outcome
    const text = failure
      ? `${what} failed: ${failure.message.join(': ')}`
      : `${what} ${confirmed ? 'is confirmed' : 'was asked, and cannot be confirmed'} by ${driver}`
    const kind = failure ? 'power-failed' : 'power'
    await addEvent(db, { source: 'power', kind, text, hostId: host.id, deploymentId: active.get(host.id)?.id }, now())
  }
}
