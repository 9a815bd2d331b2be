import { expect, test } from 'vitest'
import { pageOfEvents } from '../db/events.ts'
import { addHost } from '../db/hosts.ts'
import { openDatabase } from '../db/open.ts'
import { bootRecorder } from './record.ts'

const request = (peerAddress: string, status = 200) => ({
  path: 'scout/vmlinuz',
  peerAddress,
  status,
  bytes: 5,
  ms: 7,
  isWhole: true,
})

const untroubled = {
  onLost: (error: unknown) => expect(error).toBeUndefined(),
  onHeldUp: (error: unknown) => expect(error).toBeUndefined(),
}

test('a request is a line of the timeline of the host that made it', async ({ onTestFinished }) => {
  const db = await openDatabase(':memory:')
  onTestFinished(() => db.destroy())
  const interfaces = [{ mac: '52:54:00:00:00:01', ip: '10.0.0.1' }]
  await addHost(db, { name: 'n1', loader: 'auto', defaultTarget: 'local', interfaces, powerMethods: [] }, 0)
  const recorder = bootRecorder(db, { now: () => 42, ...untroubled })
  recorder.http(request('10.0.0.1'))
  recorder.http(request('10.0.0.1', 404))
  recorder.tftp({ kind: 'finished', path: 'x', peer: { address: '10.0.0.1', port: 1 }, bytes: 9, ms: 3 })
  await recorder.settled()
  expect((await pageOfEvents(db, {}, { limit: 10 })).rows).toMatchObject([
    { at: 42, host: 'n1', source: 'http', kind: 'http-sent', text: 'fetched scout/vmlinuz by HTTP: 5 bytes in 7 ms' },
    { host: 'n1', kind: 'http-refused', text: 'asked for scout/vmlinuz by HTTP and got 404' },
    { host: 'n1', source: 'tftp', kind: 'tftp-sent' },
  ])
})

test('strangers are named, and cannot fill the database', async ({ onTestFinished }) => {
  const db = await openDatabase(':memory:')
  onTestFinished(() => db.destroy())
  const recorder = bootRecorder(db, { now: Date.now, ...untroubled })
  const started = performance.now()
  for (let i = 0; i < 2000; i += 1) recorder.http(request('10.9.9.9'))
  await recorder.settled()
  const events = (await pageOfEvents(db, {}, { limit: 10_000 })).rows
  expect(events.length).toBeGreaterThanOrEqual(200)
  // A burst, and those that time has let through since.
  expect(events.length).toBeLessThanOrEqual(201 + (20 * (performance.now() - started)) / 1000)
  expect(events[0]?.text).toContain('from 10.9.9.9')
})
