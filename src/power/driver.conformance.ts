// The promises of PowerDriver (driver.ts) as tests: a function that each driver's own test file calls.
import { inspect } from 'node:util'
import { describe, expect, type TestContext, test } from 'vitest'
import { Secret } from '../lib/secret.ts'
import { causeChain, Failure } from '../model/failure.ts'
import type { PowerMethod, PowerState } from '../model/power.ts'
import type { PowerDriver } from './driver.ts'

/** One machine with its controller, made for one test. */
export type ConformanceMachine = {
  readonly method: PowerMethod
  /** Where the driver can look and act: the machine itself, seen and touched past its controller. */
  readonly world?: {
    readonly state: () => PowerState
    readonly setState: (state: 'on' | 'off') => void
    /** The device that the machine would boot next. */
    readonly nextBoot: () => string
    /** The controller answers nobody from now on. */
    readonly silence: () => void
  }
  readonly close: () => Promise<void>
}

/** A silent controller must be given up on within this time, with the shortest patience that the method can ask for. */
const silenceMsMax = 10_000

export function powerDriverConformance(
  name: string,
  driver: PowerDriver,
  makeMachine: () => Promise<ConformanceMachine>,
): void {
  const never = new AbortController().signal
  const machineForTest = async ({ onTestFinished }: TestContext) => {
    const machine = await makeMachine()
    onTestFinished(() => machine.close())
    return machine
  }
  const failureOf = async (work: Promise<unknown>): Promise<Failure> => {
    const result = await work.then(
      (value) => new Error(`resolved with ${inspect(value)}`),
      (error: unknown) => error,
    )
    expect(result).toBeInstanceOf(Failure)
    return result as Failure
  }

  // Together, since most of them wait for a controller.
  describe.concurrent(`power driver ${name}`, () => {
    test('takes its own method and refuses an option that it does not know', async (context) => {
      const { method } = await machineForTest(context)
      driver.check(method)
      const wrong = { ...method, options: { ...method.options, colour: 'red' } }
      expect(() => driver.check(wrong)).toThrow(expect.objectContaining({ code: 'bad-input', at: 'options.colour' }))
    })

    test('ends with `cancelled` when the signal was aborted before it began', async (context) => {
      const { method, world } = await machineForTest(context)
      const signal = AbortSignal.abort()
      expect((await failureOf(driver.status(method, signal))).code).toBe('cancelled')
      expect((await failureOf(driver.apply(method, 'on', signal))).code).toBe('cancelled')
      expect(world?.state() ?? 'off').toBe('off')
    })

    test('accepts each action, and `on` when on and `off` when off', async (context) => {
      const { method, world } = await machineForTest(context)
      for (const [action, state] of [
        ['on', 'on'],
        ['on', 'on'],
        ['reset', 'on'],
        ['off', 'off'],
        ['off', 'off'],
      ] as const) {
        await driver.apply(method, action, never)
        if (world) expect(world.state()).toBe(state)
      }
    })

    test('tells the state of this moment, or `unknown` when it has no way to look', async (context) => {
      const { method, world } = await machineForTest(context)
      for (const state of ['on', 'off', 'on'] as const) {
        world?.setState(state)
        expect(await driver.status(method, never)).toBe(world ? state : 'unknown')
      }
    })

    test('tells of a silent controller within a bound, as `bmc-unreachable`', { timeout: 20_000 }, async (context) => {
      const { method, world } = await machineForTest(context)
      if (!world) return
      world.silence()
      const start = performance.now()
      expect((await failureOf(driver.status(method, never))).code).toBe('bmc-unreachable')
      expect(performance.now() - start).toBeLessThan(silenceMsMax)
    })

    test('ends soon with `cancelled` when the signal is aborted while it waits', async (context) => {
      const { method, world } = await machineForTest(context)
      if (!world) return
      world.silence()
      const start = performance.now()
      expect((await failureOf(driver.status(method, AbortSignal.timeout(200)))).code).toBe('cancelled')
      expect(performance.now() - start).toBeLessThan(1_500)
    })

    test('tells a wrong password and a wrong user name apart, and shows no password', async (context) => {
      const { method, world } = await machineForTest(context)
      if (!world) return
      const password = new Secret('not-the-Password1')
      const wrongPassword = await failureOf(driver.status({ ...method, password }, never))
      expect(wrongPassword).toMatchObject({ code: 'bmc-refused', at: 'password' })
      const wrongUser = await failureOf(driver.apply({ ...method, username: 'nobody', password }, 'on', never))
      expect(wrongUser).toMatchObject({ code: 'bmc-refused', at: 'username' })
      for (const failure of [wrongPassword, wrongUser]) {
        expect(inspect(failure, { depth: 20, showHidden: true })).not.toContain(password.reveal())
        expect(causeChain(failure).length).toBeGreaterThan(1)
      }
      expect(world.state()).toBe('off')
    })

    test('asks the running system to switch its machine off', async (context) => {
      const { method, world } = await machineForTest(context)
      if (!world || !driver.shutDown) return
      world.setState('on')
      await driver.shutDown(method, never)
      expect(world.state()).toBe('off')
    })

    test('asks for the device of the next boot and tells what the controller then says', async (context) => {
      const { method, world } = await machineForTest(context)
      if (!world || !driver.setBootDevice) return
      const seen = new Set<string>()
      for (const device of ['network', 'disk', 'firmware'] as const) {
        expect(await driver.setBootDevice(method, { device, efi: false }, never)).toEqual({ device, once: true })
        seen.add(world.nextBoot())
      }
      expect(seen.size).toBe(3)
    })

    test('serves several calls at once without mixing their answers', async (context) => {
      const one = await machineForTest(context)
      const other = await machineForTest(context)
      one.world?.setState('on')
      const states = await Promise.all([one, other, one, other].map((machine) => driver.status(machine.method, never)))
      expect(states).toEqual(one.world ? ['on', 'off', 'on', 'off'] : Array(4).fill('unknown'))
    })
  })
}
