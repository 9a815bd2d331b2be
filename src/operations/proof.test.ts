import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Caller } from '../contract/operation.ts'
import { findDeployment, moveDeployment } from '../db/deployments.ts'
import { addEvent } from '../db/events.ts'
import { exportProof, proofProblem } from '../model/proof.ts'
import { controlHandlers } from './control.ts'
import { keepProofIfProven } from './proof.ts'
import { serviceHandlers } from './service.ts'
import { armDeployment, exampleInventory, exampleProof, nameImage, openTestWorld, type TestWorld } from './testing.ts'

const admin: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' }
const bearer = (token: string): Caller => ({ kind: 'bearer', token, address: '10.77.0.11' })

let world: TestWorld
let control: ReturnType<typeof controlHandlers>
let deployment: number

beforeEach(async () => {
  world = await openTestWorld()
  control = controlHandlers(world)
  await nameImage(world, 'debian', '12')
  const xml = `<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk>
    <probe><tcp port="22"/></probe></setup>`
  await control.putSetup({ xml }, admin)
  const interfaces = [{ mac: '52:54:00:00:00:01', ip: '10.77.0.11' }]
  await control.addHost({ name: 'n1', interfaces, powerMethods: [{ driver: 'manual', options: [] }] }, admin)
  const { rollout } = await control.startRollout({ nodeset: 'n1', setup: 'demo' }, admin)
  deployment = rollout.deployments[0]?.id ?? 0
})
afterEach(() => world.close())

/** The agent's whole work, up to the proven disk. */
async function prove(): Promise<void> {
  const service = serviceHandlers(world)
  const token = await armDeployment(world, deployment)
  const agent = '11111111-1111-4111-8111-111111111111'
  const input = { host: 'n1', agent, agentVersion: '1.2', scoutSha256: 'a'.repeat(64), inventory: exampleInventory }
  const { sessionKey } = await service.registerHost(input, bearer(token))
  await service.completeDeployment({ deployment, proof: exampleProof }, bearer(sessionKey))
}

async function end(state: 'done' | 'failed'): Promise<void> {
  const row = await findDeployment(world.db, deployment)
  await moveDeployment(world.db, row, state, {}, { by: 'engine', at: world.now() })
  const about = { hostId: row.host_id, deploymentId: row.id }
  await addEvent(
    world.db,
    { source: 'engine', kind: state, text: 'the new system was observed', ...about },
    world.now(),
  )
}

const getProof = () => control.getProof({ deployment }, admin)

test('the proof of a deployment says what was written, read back and seen, by whom, and is signed', async () => {
  await prove()
  await end('done')
  const signed = await getProof()
  const { publicKey } = await control.getSigningKey({}, admin)
  expect(proofProblem(exportProof(signed), publicKey)).toBeUndefined()
  expect(exportProof(signed).proof).toMatchObject({
    deployment,
    host: 'n1',
    outcome: 'done',
    setup: { name: 'demo', version: 1, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
    images: [{ reference: 'debian:12', digest: 'd'.repeat(64) }],
    disk: { path: '/dev/vda', sizeBytes: 2 ** 32 },
    bytes: { fetched: 1, written: 2, zeroed: 3, readBack: 5 },
    probe: { kind: 'tcp', port: 22, result: 'seen', said: 'the new system was observed' },
    versions: { agent: '1.2', scoutSha256: 'a'.repeat(64) },
    machine: { firmware: 'uefi' },
    times: { states: expect.arrayContaining([{ state: 'deploying', at: expect.any(String) }]) },
  })
})

test('the proof stays as it was signed when everything around it changes and the host is gone', async () => {
  await prove()
  await end('done')
  await keepProofIfProven(world, deployment)
  const before = await getProof()
  world.clock.offsetMs = 3_600_000
  await control.removeHost({ name: 'n1' }, admin)
  expect(await getProof()).toEqual(before)
})

test('a proof that nobody asked for is kept when its host is removed', async () => {
  await prove()
  await end('done')
  await control.removeHost({ name: 'n1' }, admin)
  expect(exportProof(await getProof()).proof).toMatchObject({ host: 'n1', outcome: 'done' })
})

test('a disk that was proven and a system that was not seen are told apart', async () => {
  await prove()
  await end('failed')
  expect(exportProof(await getProof()).proof).toMatchObject({ outcome: 'failed', probe: { result: 'not-seen' } })
})

test('there is no proof of what has not ended, of what proved nothing, and of what never was', async () => {
  await expect(getProof()).rejects.toMatchObject({ code: 'wrong-state', message: expect.stringContaining('not ended') })
  await end('failed')
  await expect(getProof()).rejects.toMatchObject({ code: 'wrong-state', message: expect.stringContaining('no proof') })
  await keepProofIfProven(world, deployment)
  await expect(control.getProof({ deployment: 99 }, admin)).rejects.toMatchObject({ code: 'unknown-deployment' })
})
