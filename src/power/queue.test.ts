import { expect, test } from 'vitest'
import { until } from '../lib/until.ts'
import { asCommand, asSwitch, queuesInUse } from './queue.ts'

const never = new AbortController().signal

test('one controller gets its commands one by one, in order and with a pause, and another does not wait for it', async () => {
  const log: string[] = []
  const command = (address: string, name: string) =>
    asCommand(address, never, async () => {
      log.push(`${name} begins`)
      await new Promise((resolve) => setTimeout(resolve, 10))
      log.push(`${name} ends`)
      return performance.now()
    })
  const [first, second, other] = await Promise.all([
    command('BMC-1', 'first'),
    command('bmc-1', 'second'),
    command('bmc-2', 'other'),
  ])
  expect(log.filter((line) => !line.startsWith('other'))).toEqual([
    'first begins',
    'first ends',
    'second begins',
    'second ends',
  ])
  expect(second - first).toBeGreaterThan(95)
  expect(other).toBeLessThan(second)
  await until('the queues to be gone', () => queuesInUse() === 0, { timeoutMs: 2_000 })
})

test('a failing command fails its caller only', async () => {
  const failing = asCommand('bmc', never, () => Promise.reject(new Error('no')))
  const next = asCommand('bmc', never, async () => 'yes')
  await expect(failing).rejects.toThrow('no')
  expect(await next).toBe('yes')
})

test('who gives up while waiting leaves at once, and its work is never done', async () => {
  const { promise: held, resolve: release } = Promise.withResolvers<void>()
  const first = asSwitch('bmc', never, () => held)
  const patience = new AbortController()
  let done = false
  const second = asSwitch('bmc', patience.signal, async () => {
    done = true
  })
  patience.abort(new Error('enough'))
  await expect(second).rejects.toThrow('enough')
  release()
  await first
  await until('the queues to be gone', () => queuesInUse() === 0, { timeoutMs: 2_000 })
  expect(done).toBe(false)
})

test('a queue has an end', async () => {
  const { promise: held, resolve: release } = Promise.withResolvers<void>()
  const waiting = Array.from({ length: 32 }, () => asSwitch('bmc', never, () => held))
  await expect(asSwitch('bmc', never, () => held)).rejects.toMatchObject({ code: 'bmc-unreachable' })
  release()
  await Promise.all(waiting)
  await until('the queues to be gone', () => queuesInUse() === 0, { timeoutMs: 2_000 })
})
