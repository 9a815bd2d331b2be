import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { describe, expect, onTestFinished, test } from 'vitest'
import { Secret } from '../lib/secret.ts'
import { until } from '../lib/until.ts'
import { causeChain, Failure } from '../model/failure.ts'
import type { PowerMethod } from '../model/power.ts'
import { powerDriverConformance } from './driver.conformance.ts'
import { ipmi } from './ipmi.ts'
import { startIpmiRelay } from './ipmi-relay.ts'
import { startIpmiSim } from './ipmi-sim.ts'

const never = new AbortController().signal
/** With what a shell, an option parser and a regular expression would trip over; 19 bytes. */
const password = '-P"\'$(x);`|\\&%*[ä!'

async function machineForTest() {
  const sim = await startIpmiSim({ machines: [{ name: 'n01', password }] })
  onTestFinished(() => sim.close())
  const method: PowerMethod = { ...sim.method('n01'), options: { timeout: '1' } }
  return { sim, method }
}

/** Puts a program named ipmitool before the real one, for this test. `script` is sh; $REAL is the real one. */
function replaceIpmitool(script: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'hades-ipmitool-'))
  writeFileSync(join(folder, 'ipmitool'), `#!/bin/sh\nFOLDER=${folder}\nREAL=/usr/bin/ipmitool\n${script}\n`)
  chmodSync(join(folder, 'ipmitool'), 0o755)
  const path = process.env.PATH
  process.env.PATH = `${folder}:${path}`
  onTestFinished(() => {
    process.env.PATH = path
    rmSync(folder, { recursive: true })
  })
  return folder
}

function commandLines(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
      } catch {
        return '' // It has ended meanwhile.
      }
    })
}

async function failureOf(work: Promise<unknown>): Promise<Failure> {
  const result = await work.catch((error: unknown) => error)
  expect(result).toBeInstanceOf(Failure)
  return result as Failure
}

powerDriverConformance('ipmi', ipmi, async () => {
  const sim = await startIpmiSim({ machines: [{ name: 'n01', password }] })
  return {
    method: { ...sim.method('n01'), options: { timeout: '1' } },
    world: {
      state: () => sim.power('n01'),
      setState: (state) => sim.setPower('n01', state),
      nextBoot: () => sim.boot('n01'),
      silence: () => sim.silence(),
    },
    close: () => sim.close(),
  }
})

test('the password stands in no argument list while ipmitool runs', async () => {
  const { sim, method } = await machineForTest()
  sim.silence()
  const abort = new AbortController()
  const asking = failureOf(ipmi.status(method, abort.signal))
  const [host = ''] = method.address.split(':')
  const lines = await until(
    'ipmitool to run',
    () => {
      const all = commandLines()
      return all.some((line) => line.startsWith('ipmitool') && line.includes(host)) && all
    },
    { timeoutMs: 2_000, everyMs: 10 },
  )
  expect(lines.filter((line) => line.includes(password))).toEqual([])
  abort.abort()
  await asking
  await until('ipmitool to be gone', () => !commandLines().some((line) => line.includes(host)), { timeoutMs: 2_000 })
})

test('an IPMITOOL_PASSWORD of our own environment does not win over the password of the method', async () => {
  const { method } = await machineForTest()
  process.env.IPMITOOL_PASSWORD = 'another'
  onTestFinished(() => {
    delete process.env.IPMITOOL_PASSWORD
  })
  expect(await ipmi.status(method, never)).toBe('off')
})

test('a wrong password reaches the controller in exactly one login', async () => {
  const { sim, method } = await machineForTest()
  const relay = await startIpmiRelay(method.address)
  onTestFinished(() => relay.close())
  const wrong = { ...method, address: relay.address, password: new Secret('wrong') }
  expect(await failureOf(ipmi.apply(wrong, 'on', never))).toMatchObject({ code: 'bmc-refused', at: 'password' })
  expect(relay.seen).toMatchObject({ 'open-session': 1, rakp1: 1 })
  expect(sim.events).toEqual([])
})

// They wait for the tool's patience to end, so they wait together.
describe.concurrent('a controller that does not keep to the protocol', () => {
  test('and goes silent in the middle of the login has refused it, and is not asked again', async ({
    onTestFinished,
  }) => {
    const sim = await startIpmiSim({ machines: [{ name: 'n01' }] })
    onTestFinished(() => sim.close())
    const relay = await startIpmiRelay(sim.method('n01').address)
    onTestFinished(() => relay.close())
    relay.losing.add('rakp1')
    const method = { ...sim.method('n01'), address: relay.address, options: { timeout: '1' } }
    expect(await failureOf(ipmi.status(method, never))).toMatchObject({ code: 'bmc-refused', at: 'login' })
  })

  test('and answers noise is a failure within a bound', async ({ onTestFinished }) => {
    const socket = createSocket('udp4')
    socket.on('message', (_, client) => {
      for (let bytes = 1; bytes < 80; bytes += 7) socket.send(Buffer.alloc(bytes, 0x5a), client.port, client.address)
    })
    socket.bind(0, '127.0.0.1')
    await once(socket, 'listening')
    onTestFinished(() => void socket.close())
    const address = `127.0.0.1:${socket.address().port}`
    const method = { driver: 'ipmi', address, username: 'u', password: new Secret('p'), options: { timeout: '1' } }
    expect(['bmc-unreachable', 'bmc-refused']).toContain((await failureOf(ipmi.status(method, never))).code)
  })
})

test.each([
  ['words that are not the exact answer', 'echo Chassis Power is on fire'],
  ['nothing', ':'],
  ['a megabyte', 'head -c 1000000 /dev/zero'],
  [
    'a megabyte, and fails of it',
    'trap "" TERM PIPE; echo "Could not open socket" >&2; head -c 1000000 /dev/zero; exit 1',
  ],
  ['the password', 'echo "$IPMI_PASSWORD"'],
  ['the password, and fails', 'echo "Error: $IPMI_PASSWORD" >&2; exit 1'],
  ['nothing, and dies of a signal', 'kill -SEGV $$'],
])('an ipmitool that prints %s makes a failure and no state, and shows no password', async (_, script) => {
  const { method } = await machineForTest()
  replaceIpmitool(script)
  for (const ask of [
    () => ipmi.status(method, never),
    () => ipmi.apply(method, 'on', never),
    async () => ipmi.setBootDevice?.(method, { device: 'disk', efi: false }, never),
  ]) {
    const failure = await failureOf(ask())
    expect(failure.code).toBe('bmc-refused')
    expect(inspect(failure, { depth: 20, showHidden: true })).not.toContain(password)
    expect(inspect(causeChain(failure))).not.toContain(password)
  }
})

test('a controller that refuses `on` because the machine is on has done what was asked', async () => {
  const { sim, method } = await machineForTest()
  sim.behave('n01', 'refuses')
  const failure = await failureOf(ipmi.apply(method, 'on', never))
  expect(causeChain(failure).join(': ')).toContain('Set Chassis Power Control to Up/On failed: Unspecified error')
  sim.setPower('n01', 'on')
  await ipmi.apply(method, 'on', never)
  expect(await failureOf(ipmi.apply(method, 'reset', never))).toMatchObject({ code: 'bmc-refused' })
})

test('UEFI boot is asked for when the caller or the method says so, and only then', async () => {
  const { method } = await machineForTest()
  const folder = replaceIpmitool('echo "$@" >> $FOLDER/args; exec $REAL "$@"')
  const efiMethod = { ...method, options: { ...method.options, efi: 'true' } }
  await ipmi.setBootDevice?.(method, { device: 'network', efi: false }, never)
  await ipmi.setBootDevice?.(method, { device: 'network', efi: true }, never)
  await ipmi.setBootDevice?.(efiMethod, { device: 'network', efi: false }, never)
  const bootdev = readFileSync(join(folder, 'args'), 'utf8')
    .split('\n')
    .flatMap((line) => line.match(/bootdev.*/) ?? [])
  expect(bootdev).toEqual(['bootdev pxe', 'bootdev pxe options=efiboot', 'bootdev pxe options=efiboot'])
})

test('an account with operator privilege is enough', async () => {
  const { sim, method } = await machineForTest()
  const operator = { ...method, options: { ...method.options, privilege: 'operator' } }
  await ipmi.apply(operator, 'on', never)
  expect(sim.power('n01')).toBe('on')
})

test.each([
  [{ options: { cipher: '17; reboot' } }, 'options.cipher'],
  [{ options: { timeout: '0' } }, 'options.timeout'],
  [{ options: { efi: 'yes' } }, 'options.efi'],
  [{ options: { interface: 'lan' } }, 'options.interface'],
  [{ address: '' }, 'address'],
  [{ address: '-h' }, 'address'],
  [{ address: '10.0.0.1:0' }, 'address'],
  [{ address: '10.0.0.1:65536' }, 'address'],
  [{ address: 'bmc$(reboot)' }, 'address'],
  [{ username: 'a name of 17 byte' }, 'username'],
  [{ password: new Secret('a password of 21 byte') }, 'password'],
  [{ password: new Secret('nul\0') }, 'password'],
])('a method with %o is refused at %s before anything is sent', (wrong: Partial<PowerMethod>, at) => {
  const method = { driver: 'ipmi', address: '127.0.0.1', username: 'u', password: new Secret('p'), options: {} }
  ipmi.check(method)
  ipmi.check({ ...method, address: '[2001:db8::1]:6230' })
  ipmi.check({ ...method, address: 'bmc-n01.example.org:623' })
  expect(() => ipmi.check({ ...method, ...wrong })).toThrow(expect.objectContaining({ code: 'bad-input', at }))
})
