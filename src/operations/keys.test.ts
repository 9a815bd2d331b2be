import { afterEach, beforeEach, expect, test } from 'vitest'
import type { UserCaller } from '../contract/operation.ts'
import { powerMethodsOf } from '../db/hosts.ts'
import { sealedColumns } from '../db/sealed.ts'
import { Keyring } from '../lib/seal.ts'
import { newNonce, sessionKey } from '../model/token.ts'
import { controlHandlers } from './control.ts'
import { continueRotation } from './keys.ts'
import { nameImage, openTestWorld, type TestWorld } from './testing.ts'

let world: TestWorld
let kept: (readonly Uint8Array[])[]
let control: ReturnType<typeof controlHandlers>
const admin: UserCaller = { kind: 'user', name: 'admin', role: 'admin', address: 'unix' }
const xml = `<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>`

beforeEach(async () => {
  kept = []
  world = { ...(await openTestWorld()), keepKeys: async (keys) => void kept.push(keys) }
  control = controlHandlers(world)
  for (const number of [1, 2, 3]) {
    const method = { driver: 'ipmi', address: '192.0.2.1', username: 'root', password: `pass-${number}`, options: [] }
    const interfaces = [{ mac: `52:54:00:00:00:0${number}` }]
    await control.addHost({ name: `n${number}`, interfaces, powerMethods: [method] }, admin)
  }
})
afterEach(() => world.close())

async function passwords(ring: Keyring): Promise<string[]> {
  const methods = await powerMethodsOf(world.db, [1, 2, 3])
  return [...methods.values()].flat().map(({ sealed_password }) => ring.open(sealed_password).reveal())
}

test('after a rotation every secret opens with the new key alone, and the old one is gone', async () => {
  const old = new Keyring(...world.keyring.reveal())
  const { keys } = await control.rotateKeys({}, admin)
  expect(keys).toEqual([{ id: world.keyring.ids[0], isCurrent: true, sealed: 3, deployments: 0 }])
  expect(keys[0]?.id).not.toBe(old.ids[0])
  expect(await passwords(world.keyring)).toEqual(['pass-1', 'pass-2', 'pass-3'])
  await expect(passwords(old)).rejects.toThrow(/not among/)
  // Both were kept before anything was sealed anew, the new one alone at the end.
  expect(kept.map((keys) => keys.length)).toEqual([2, 1])
  expect(new Keyring(...(kept[1] as [Uint8Array])).ids).toEqual(world.keyring.ids)
})

test('a service that was killed in the middle goes on with both keys', async () => {
  const [old] = world.keyring.reveal()
  const young = Keyring.randomKey()
  // One secret was sealed anew before the end, and one was sealed before keys had ids.
  const between = new Keyring(young, old)
  const rows = await world.db.selectFrom('power_methods').selectAll().execute()
  const [first, second] = rows
  const anew = between.seal(between.open(first?.sealed_password ?? ''))
  const bare = second?.sealed_password.split(':')[1] ?? ''
  await world.db.updateTable('power_methods').set({ sealed_password: anew }).where('id', '=', 1).execute()
  await world.db.updateTable('power_methods').set({ sealed_password: bare }).where('id', '=', 2).execute()
  world.keyring.replace(young, old)
  expect((await control.listKeys({}, admin)).keys).toMatchObject([{ sealed: 1 }, { sealed: 2 }])
  expect(await continueRotation(world)).toBe(true)
  expect(await passwords(new Keyring(young))).toEqual(['pass-1', 'pass-2', 'pass-3'])
  expect(kept.map((keys) => keys.length)).toEqual([1])
})

test('the old key stays as long as an agent under way has its words from it', async () => {
  await nameImage(world, 'debian', '12')
  await control.putSetup({ xml }, admin)
  const { rollout } = await control.startRollout({ nodeset: 'n1', setup: 'demo', acceptNewDisk: true }, admin)
  const id = rollout.deployments[0]?.id ?? 0
  const armed = { id, nonce: newNonce(world.keyring), agent: 'a' }
  await world.db.updateTable('deployments').set({ boot_nonce: armed.nonce }).where('id', '=', id).execute()
  const word = sessionKey(world.keyring, armed)?.reveal()
  const { keys } = await control.rotateKeys({}, admin)
  expect(keys).toMatchObject([
    { sealed: 3, deployments: 0 },
    { sealed: 0, deployments: 1 },
  ])
  expect(sessionKey(world.keyring, armed)?.reveal()).toBe(word)
  await expect(control.rotateKeys({}, admin)).rejects.toMatchObject({ code: 'wrong-state' })
  await control.cancelRollout({ rollout: rollout.id }, admin)
  expect(await continueRotation(world)).toBe(true)
  expect(sessionKey(world.keyring, armed)).toBeUndefined()
})

test('when the new key cannot be kept, nothing is sealed with it', async () => {
  const before = world.keyring.ids
  world = { ...world, keepKeys: async () => Promise.reject(new Error('disk full')) }
  control = controlHandlers(world)
  await expect(control.rotateKeys({}, admin)).rejects.toThrow('disk full')
  expect(world.keyring.ids).toEqual(before)
  expect(await passwords(world.keyring)).toHaveLength(3)
})

test('every column that holds sealed secrets is sealed anew', async () => {
  const tables = await world.db.introspection.getTables()
  const sealed = tables.flatMap(({ name, columns }) =>
    columns.filter((column) => column.name.startsWith('sealed_')).map((column) => `${name}.${column.name}`),
  )
  expect(sealed.sort()).toEqual(sealedColumns.map(({ table, column }) => `${table}.${column}`))
})

test('of two rotations at once one is refused', async () => {
  const both = await Promise.allSettled([control.rotateKeys({}, admin), control.rotateKeys({}, admin)])
  expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  expect(await passwords(world.keyring)).toEqual(['pass-1', 'pass-2', 'pass-3'])
})
