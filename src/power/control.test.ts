import { describe, expect, type TestContext, test } from 'vitest'
import { Secret } from '../lib/secret.ts'
import { until } from '../lib/until.ts'
import { causeChain, Failure } from '../model/failure.ts'
import type { PowerMethod } from '../model/power.ts'
import { type PowerLog, readPower, setBootDevice, switchPower, testPowerMethod } from './control.ts'
import { startIpmiRelay } from './ipmi-relay.ts'
import { type SimBehaviour, startIpmiSim } from './ipmi-sim.ts'

// Tests that run together must say themselves whose end closes the machine.
async function machineForTest(
  { onTestFinished }: TestContext,
  behaviour: SimBehaviour = 'honest',
  power: 'on' | 'off' = 'off',
) {
  const sim = await startIpmiSim({ machines: [{ name: 'n01', behaviour, power }] })
  onTestFinished(() => sim.close())
  const relay = await startIpmiRelay(sim.method('n01').address)
  onTestFinished(() => relay.close())
  const method: PowerMethod = { ...sim.method('n01'), address: relay.address, options: { timeout: '1' } }
  const asked = () => sim.events.map((event) => ('state' in event ? event.state : event.kind))
  return { sim, relay, method, asked }
}

async function failureOf(work: Promise<unknown>): Promise<Failure> {
  const result = await work.catch((error: unknown) => error)
  expect(result).toBeInstanceOf(Failure)
  return result as Failure
}

const manualMethod = { driver: 'manual', address: 'slot 7', username: '', password: new Secret(''), options: {} }

// Most of these wait for controllers rather than compute, so they wait together.
describe.concurrent('switching power', { timeout: 30_000 }, () => {
  test('reads back that the machine is on, and on again is no failure', async (context) => {
    const { sim, method, asked } = await machineForTest(context)
    expect(await switchPower(method, 'on')).toMatchObject({ asked: true, reached: 'on', confirmed: true, tries: 1 })
    expect(sim.power('n01')).toBe('on')
    expect(await switchPower(method, 'on')).toMatchObject({ reached: 'on', confirmed: true })
    await until('both requests to be written', () => asked().length === 2, { timeoutMs: 2_000 })
  })

  test('a cycle is an off and an on that are both read back, whatever the machine was', async (context) => {
    for (const power of ['on', 'off'] as const) {
      const { sim, method, asked } = await machineForTest(context, 'honest', power)
      expect(await switchPower(method, 'cycle')).toMatchObject({ reached: 'on', confirmed: true, tries: 2 })
      expect(sim.power('n01')).toBe('on')
      await until('both requests to be written', () => asked().length === 2, { timeoutMs: 2_000 })
      expect(asked()).toEqual(['off', 'on'])
    }
  })

  test('a soft cycle lets the system shut down first, and one that cannot be asked is switched off all the same', async (context) => {
    const { sim, method, asked } = await machineForTest(context, 'honest', 'on')
    expect(await switchPower(method, 'cycle', { soft: true })).toMatchObject({ reached: 'on', confirmed: true })
    await until('all requests to be written', () => asked().length === 3, { timeoutMs: 2_000 })
    expect(asked()).toEqual(['shutdown', 'off', 'on'])
    sim.setPower('n01', 'off')
    await switchPower(method, 'off', { soft: true })
    await until('all requests to be written', () => asked().length === 4, { timeoutMs: 2_000 })
    expect(asked().at(-1)).toBe('off')
    expect(await switchPower(manualMethod, 'cycle', { soft: true })).toMatchObject({ reached: 'unknown' })
  })

  test('a reset is asked for but never confirmed, because no status shows it', async (context) => {
    const { method, asked } = await machineForTest(context, 'honest', 'on')
    expect(await switchPower(method, 'reset')).toMatchObject({ asked: true, reached: 'on', confirmed: false })
    await until('the reset to be written', () => asked().length === 1, { timeoutMs: 2_000 })
    expect(asked()).toEqual(['reset'])
  })

  test('a reset of a machine that is off is a wrong state and is not sent', async (context) => {
    const { method, asked } = await machineForTest(context)
    expect((await failureOf(switchPower(method, 'reset'))).code).toBe('wrong-state')
    expect(asked()).toEqual([])
  })

  test('a controller that says yes and does nothing lies, to each who asks within a time of his own', async (context) => {
    const { method, asked } = await machineForTest(context, 'ignores')
    const options = { deadlineMs: 3_000 }
    const failures = await Promise.all([1, 2].map(() => failureOf(switchPower(method, 'on', options))))
    for (const failure of failures) {
      expect(failure.code).toBe('bmc-lies')
      expect(failure.message).toMatch(/said yes to on, but is still off after 3 s$/)
    }
    expect(asked()).toEqual(['on', 'on'])
  })

  test('the first half of a cycle that does not come about ends it', async (context) => {
    const { method, asked } = await machineForTest(context, 'ignores', 'on')
    const failure = await failureOf(switchPower(method, 'cycle', { deadlineMs: 3_000 }))
    expect(failure.message).toMatch(/said yes to off, but is still on after 3 s$/)
    expect(asked()).toEqual(['off'])
  })

  test('a machine that is late is waited for', async (context) => {
    const { method, asked } = await machineForTest(context, { lateMs: 2_000 })
    const outcome = await switchPower(method, 'on')
    expect(outcome).toMatchObject({ reached: 'on', confirmed: true, tries: 1 })
    expect(outcome.ms).toBeGreaterThan(1_900)
    expect(asked()).toEqual(['on'])
  })

  test('of two opposite requests at once the second is asked for when the first has come about', async ({
    onTestFinished,
  }) => {
    const foundAt: string[] = []
    const sim = await startIpmiSim({
      machines: [{ name: 'n01', power: 'on', behaviour: { lateMs: 300 } }],
      onEvent: () => foundAt.push(sim.power('n01')),
    })
    onTestFinished(() => sim.close())
    const method = sim.method('n01')
    const [off, on] = await Promise.all([switchPower(method, 'off'), switchPower(method, 'on')])
    expect([off.reached, on.reached]).toEqual(['off', 'on'])
    expect(foundAt).toEqual(['on', 'off'])
  })

  test('a controller that refuses is believed, with the words of the tool as cause', async (context) => {
    const { method, relay } = await machineForTest(context, 'refuses')
    const failure = await failureOf(switchPower(method, 'on'))
    expect(failure.code).toBe('bmc-refused')
    expect(causeChain(failure).at(-1)).toMatch(/Up\/On failed: Unspecified error/)
    expect(relay.seen.rakp1).toBe(2) // The command, and the look whether the machine was on already.
  })

  test('a machine that only a person can switch is asked for, never confirmed', async () => {
    for (const action of ['on', 'off', 'cycle', 'reset'] as const) {
      const outcome = await switchPower(manualMethod, action)
      expect(outcome).toMatchObject({ asked: true, reached: 'unknown', confirmed: false })
    }
    const hundred = Array.from({ length: 100 }, () => switchPower({ ...manualMethod, address: '' }, 'on'))
    for (const outcome of await Promise.all(hundred)) expect(outcome.asked).toBe(true)
    expect(await setBootDevice(manualMethod, 'network')).toMatchObject({ asked: false, confirmed: false })
    expect(await readPower(manualMethod)).toBe('unknown')
  })

  test('a method of no driver, or of a wrong form, is refused with the place at fault', async () => {
    expect(await failureOf(switchPower({ ...manualMethod, driver: 'constructor' }, 'on'))).toMatchObject({
      code: 'unknown-driver',
      at: 'driver',
    })
    expect(await failureOf(readPower({ ...manualMethod, options: { efi: 'true' } }))).toMatchObject({
      code: 'bad-input',
      at: 'options.efi',
    })
  })

  test('cancelling ends a switch soon and is called so', async (context) => {
    const { method } = await machineForTest(context, 'ignores')
    const start = performance.now()
    const failure = await failureOf(switchPower(method, 'on', { signal: AbortSignal.timeout(500) }))
    expect(failure.code).toBe('cancelled')
    expect(performance.now() - start).toBeLessThan(2_000)
  })
})

describe.concurrent('a silent controller', { timeout: 30_000 }, () => {
  test('is asked three times and is then unreachable', async (context) => {
    const { method, relay } = await machineForTest(context)
    relay.losing.add('ipmi')
    const warned: string[] = []
    const log: PowerLog = { info: () => undefined, warn: (fields) => void warned.push(String(fields.reason)) }
    const failure = await failureOf(readPower(method, { log }))
    expect(failure.code).toBe('bmc-unreachable')
    expect(warned).toHaveLength(2)
    expect(warned[0]).toMatch(/does not answer$/)
    expect(relay.seen.ipmi).toBe(6) // ipmitool asks twice for the capabilities.
  })

  test('that wakes up in time is a success with its tries counted', async (context) => {
    const { method, relay } = await machineForTest(context)
    relay.losing.add('ipmi')
    const log: PowerLog = { info: () => undefined, warn: () => relay.losing.clear() }
    expect(await switchPower(method, 'on', { log })).toMatchObject({ reached: 'on', confirmed: true, tries: 2 })
  })

  test('is given up on at the deadline', async (context) => {
    const { method, sim } = await machineForTest(context)
    sim.silence()
    const start = performance.now()
    const failure = await failureOf(switchPower(method, 'on', { deadlineMs: 1_000 }))
    expect(failure.code).toBe('bmc-unreachable')
    expect(failure.message).toMatch(/did not answer to power on within 1 s$/)
    expect(performance.now() - start).toBeLessThan(2_500)
  })

  test('that goes silent after its yes is neither believed nor called a liar', async (context) => {
    const { method, relay, asked } = await machineForTest(context, { lateMs: 100 })
    const outcome = failureOf(switchPower(method, 'on', { deadlineMs: 2_500 }))
    await until('the request to arrive', () => asked().length === 1, { timeoutMs: 2_000, everyMs: 1 })
    for (const packet of ['ipmi', 'open-session', 'rakp1'] as const) relay.losing.add(packet)
    const failure = await outcome
    expect(failure.code).toBe('bmc-unreachable')
  })
})

describe.concurrent('a wrong password', { timeout: 30_000 }, () => {
  test('is sent once, also when asked for again and by several at once', async (context) => {
    const { method, relay, asked } = await machineForTest(context)
    const wrong = { ...method, password: new Secret('wrong') }
    const failures = await Promise.all([
      failureOf(switchPower(wrong, 'on')),
      failureOf(readPower(wrong)),
      failureOf(setBootDevice(wrong, 'network')),
    ])
    const later = await failureOf(switchPower(wrong, 'off'))
    for (const failure of [...failures, later]) expect(failure).toMatchObject({ code: 'bmc-refused', at: 'password' })
    expect(failures[0].message).toMatch(/correct it in the power method/)
    expect(later.message).toMatch(/not sent again for 15 min, unless the method is changed or tested$/)
    expect(relay.seen).toMatchObject({ 'open-session': 1, rakp1: 1 })
    expect(asked()).toEqual([])
  })

  test('does not keep a corrected one from being tried at once', async (context) => {
    const { method, relay } = await machineForTest(context)
    await failureOf(readPower({ ...method, password: new Secret('wrong') }))
    expect(await readPower(method)).toBe('off')
    await failureOf(readPower({ ...method, password: new Secret('wrong') }))
    expect(relay.seen.rakp1).toBe(2)
  })

  test('is sent once more for each test of the method', async (context) => {
    const { method, relay } = await machineForTest(context)
    const wrong = { ...method, password: new Secret('wrong') }
    for (const logins of [1, 2]) {
      expect(await testPowerMethod(wrong)).toMatchObject({ works: false, failed: 'login', failure: { at: 'password' } })
      expect(relay.seen.rakp1).toBe(logins)
    }
  })
})

describe.concurrent('the boot device', { timeout: 30_000 }, () => {
  test('is asked for once and read back', async (context) => {
    const { sim, method } = await machineForTest(context)
    const outcome = await setBootDevice(method, 'network', { efi: true })
    expect(outcome).toMatchObject({ asked: true, reached: 'network', confirmed: true, tries: 1 })
    expect(sim.boot('n01')).toBe('pxe')
  })

  test('that the controller forgets at once makes it a liar', async (context) => {
    const { method } = await machineForTest(context, 'ignores')
    const failure = await failureOf(setBootDevice(method, 'network'))
    expect(failure.code).toBe('bmc-lies')
    expect(failure.message).toMatch(/said yes to boot device network, but tells of another$/)
  })
})

describe.concurrent('the test of a power method', { timeout: 30_000 }, () => {
  test('tells the state when all is well', async (context) => {
    const { method } = await machineForTest(context, 'honest', 'on')
    expect(await testPowerMethod(method)).toMatchObject({ works: true, state: 'on' })
    expect(await testPowerMethod(manualMethod)).toMatchObject({ works: true, state: 'unknown' })
  })

  test('tells which part failed', async (context) => {
    const { method, sim } = await machineForTest(context)
    const partOf = async (changed: Partial<PowerMethod>, options = {}) => {
      const result = await testPowerMethod({ ...method, ...changed }, options)
      return result.works ? undefined : result.failed
    }
    expect(await partOf({ driver: 'none' })).toBe('method')
    expect(await partOf({ options: { cipher: 'three' } })).toBe('method')
    expect(await partOf({ username: 'nobody' })).toBe('login')
    expect(await partOf({ options: { cipher: '17' } })).toBe('login')
    sim.breakStatus('n01')
    expect(await partOf({})).toBe('status')
    sim.silence()
    expect(await partOf({}, { deadlineMs: 500 })).toBe('reach')
  })
})
