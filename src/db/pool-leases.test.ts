import { afterEach, beforeEach, expect, test } from 'vitest'
import { lookUpSeen } from './discovered.ts'
import { addHost } from './hosts.ts'
import { leaseFromPool } from './pool-leases.ts'
import { openTestDatabase } from './testing.ts'

const leaseMs = 1000
const addresses = ['10.0.0.200', '10.0.0.201']
const [a, b, c] = ['52:54:00:00:00:0a', '52:54:00:00:00:0b', '52:54:00:00:00:0c'] as const

let db: Awaited<ReturnType<typeof openTestDatabase>>
let mayTake: boolean
beforeEach(async () => {
  db = await openTestDatabase()
  mayTake = true
})
afterEach(() => db.destroy())

const lease = (mac: string, now: number, pool = addresses) =>
  leaseFromPool(db, mac, { addresses: pool, leaseMs, mayTake: () => mayTake }, now)

async function addKnown(mac: string, ip: string): Promise<void> {
  const host = { name: 'n1', loader: 'auto', defaultTarget: 'local', powerMethods: [] } as const
  await addHost(db, { ...host, interfaces: [{ mac, ip }] }, 1)
}

test('each machine gets an address of its own and keeps it, and when all are given out the next gets none', async () => {
  expect([await lease(a, 1), await lease(b, 1), await lease(c, 1)]).toEqual([...addresses, undefined])
  expect([await lease(b, 900), await lease(a, 900)]).toEqual(addresses.toReversed())
  expect((await lookUpSeen(db, a))?.leased_until).toBe(1900)
})

test('an address whose time is over goes to whoever asks next, and its last owner gets another', async () => {
  await lease(a, 1)
  expect(await lease(b, 1001, ['10.0.0.200'])).toBe('10.0.0.200')
  expect(await lease(a, 1002)).toBe('10.0.0.201')
  expect(await lease(b, 1003)).toBe('10.0.0.200')
})

test('the address of a host is given to nobody, and a host gets none', async () => {
  await addKnown(c, '10.0.0.200')
  expect(await lease(a, 1)).toBe('10.0.0.201')
  expect(await lease(c, 1)).toBeUndefined()
})

test('a machine loses an address that has become a host’s, or that the pool has no more', async () => {
  expect(await lease(a, 1)).toBe('10.0.0.200')
  await addKnown(c, '10.0.0.200')
  expect(await lease(a, 2)).toBe('10.0.0.201')
  expect(await lease(a, 3, ['10.0.0.77'])).toBe('10.0.0.77')
})

test('while no more may be given out, nothing is written for a newcomer, and the others keep theirs', async () => {
  await lease(a, 1)
  mayTake = false
  expect(await lease(b, 2)).toBeUndefined()
  expect(await lookUpSeen(db, b)).toBeUndefined()
  expect(await lease(a, 500)).toBe('10.0.0.200')
})

test('machines that ask at once get different addresses', async () => {
  const pool = Array.from({ length: 8 }, (_, index) => `10.0.1.${index}`)
  const macs = pool.map((_, index) => `52:54:00:00:01:0${index}`)
  const given = await Promise.all(macs.map((mac) => lease(mac, 1, pool)))
  const got = given.filter((address) => address !== undefined)
  expect(new Set(got).size).toBe(got.length)
  // Whoever lost each of its tries asks again, as DHCP clients do.
  for (const mac of macs) expect(pool).toContain(await lease(mac, 2, pool))
})
