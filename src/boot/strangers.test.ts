import { afterEach, beforeEach, expect, test } from 'vitest'
import { setDiscoveryPolicy } from '../db/discovered.ts'
import { openTestDatabase } from '../db/testing.ts'
import type { ClientKind } from './dhcp-answer.ts'
import { poolReservations } from './strangers.ts'

let db: Awaited<ReturnType<typeof openTestDatabase>>
beforeEach(async () => {
  db = await openTestDatabase()
})
afterEach(() => db.destroy())

test('only what boots from the server’s own network gets an address of the pool, and only while its loader would be told something', async () => {
  const reserve = poolReservations({ db, now: () => 1 }, ['10.0.0.200'])
  const ask = async (kind: ClientKind, isRelayed = false) =>
    (await reserve('52:54:00:00:00:99', { client: { kind, arch: 'bios' }, isRelayed }))?.address
  expect(await ask('pxe')).toBeUndefined()
  await setDiscoveryPolicy(db, 'scout')
  const kinds = ['pxe', 'ipxe', 'http-boot', 'scout', 'system'] as const
  const given: unknown[] = []
  for (const kind of kinds) given.push(await ask(kind))
  expect(given).toEqual(['10.0.0.200', '10.0.0.200', '10.0.0.200', '10.0.0.200', undefined])
  expect(await ask('pxe', true)).toBeUndefined()
  await setDiscoveryPolicy(db, 'local')
  expect(await ask('pxe')).toBe('10.0.0.200')
})

test('a flood of forged addresses gets a bounded number of addresses, and a machine that has one keeps it', async () => {
  await setDiscoveryPolicy(db, 'scout')
  const pool = Array.from({ length: 400 }, (_, index) => `10.0.${index >> 8}.${index & 255}`)
  const reserve = poolReservations({ db, now: () => 1 }, pool)
  const asker = { client: { kind: 'pxe', arch: 'bios' }, isRelayed: false } as const
  const beganMs = performance.now()
  const first = await reserve('52:54:00:00:00:01', asker)
  let given = 0
  for (let i = 0; i < 400; i += 1) {
    const mac = `02:00:00:00:${(i >> 8).toString(16).padStart(2, '0')}:${(i & 255).toString(16).padStart(2, '0')}`
    if (await reserve(mac, asker)) given += 1
  }
  expect(given).toBeLessThanOrEqual(201 + (5 * (performance.now() - beganMs)) / 1000)
  expect(given).toBeGreaterThanOrEqual(199)
  expect(await reserve('52:54:00:00:00:01', asker)).toEqual(first)
})
