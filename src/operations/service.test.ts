import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Caller } from '../contract/operation.ts'
import { controlHandlers } from './control.ts'
import { serviceHandlers } from './service.ts'
import { armDeployment, exampleInventory, exampleProof, nameImage, openTestWorld, type TestWorld } from './testing.ts'

const admin: Caller = { kind: 'user', name: 'admin', role: 'admin', address: 'test' }
const bearer = (token: string): Caller => ({ kind: 'bearer', token, address: '10.77.0.11' })
const agent = '11111111-1111-4111-8111-111111111111'
const otherAgent = '22222222-2222-4222-8222-222222222222'

let world: TestWorld
let control: ReturnType<typeof controlHandlers>
let service: ReturnType<typeof serviceHandlers>
let deployment: number
let token: string

beforeEach(async () => {
  world = await openTestWorld()
  control = controlHandlers(world)
  service = serviceHandlers(world)
  await nameImage(world, 'debian', '12')
  await control.putSetup(
    { xml: '<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>' },
    admin,
  )
  for (const n of [1, 2]) {
    const interfaces = [{ mac: `52:54:00:00:00:0${n}`, ip: `10.77.0.1${n}` }]
    await control.addHost({ name: `n${n}`, interfaces, powerMethods: [{ driver: 'manual', options: [] }] }, admin)
  }
  const { rollout } = await control.startRollout({ nodeset: 'n1', setup: 'demo' }, admin)
  deployment = rollout.deployments[0]?.id ?? 0
  token = await armDeployment(world, deployment)
})
afterEach(async () => {
  await world.close()
})

const registration = (as = agent, host = 'n1') => ({ host, agent: as, agentVersion: '1', inventory: exampleInventory })
const register = (as = agent) => service.registerHost(registration(as), bearer(token))
const state = async () => (await control.getDeployment({ deployment }, admin)).deployment.state
const progress = { step: 'transfer', doneBytes: 5, totalBytes: 10, bytesPerSecond: 2.5 } as const

test('registration gives the agent its session key and what to do', async () => {
  const { sessionKey, instructions } = await register()
  expect(sessionKey).toHaveLength(32)
  expect(instructions).toMatchObject({
    action: 'deploy',
    work: {
      deployment,
      host: 'n1',
      images: [{ reference: 'debian:12', imageUrl: `http://10.77.0.1:7780/images/${'d'.repeat(64)}/image.zst` }],
      finish: 'reboot',
    },
  })
  expect(await state()).toBe('deploying')
  expect((await control.getHost({ name: 'n1' }, admin)).host.inventory).toEqual(exampleInventory)
})

test('the agent whose registration was answered into the void may ask again and gets the same key', async () => {
  const [first, second] = [await register(), await register()]
  expect(second.sessionKey).toBe(first.sessionKey)
})

test('a boot token that is wrong, used, of another attempt or for another host is refused', async () => {
  const refused = { code: 'token-refused' }
  await expect(service.registerHost(registration(), bearer('x'))).rejects.toMatchObject(refused)
  await expect(
    service.registerHost(registration(), { kind: 'user', name: 'admin', role: 'admin', address: '' }),
  ).rejects.toMatchObject(refused)
  await expect(service.registerHost(registration(agent, 'n2'), bearer(token))).rejects.toMatchObject(refused)
  await register()
  await expect(register(otherAgent)).rejects.toMatchObject(refused)
  await armDeployment(world, deployment, 'nonce-2')
  await expect(register()).rejects.toMatchObject(refused)
})

test('a boot token dies with its deployment', async () => {
  await control.cancelRollout({ rollout: 1 }, admin)
  await expect(register()).rejects.toMatchObject({ code: 'token-refused' })
})

test('a report without the session key changes nothing', async () => {
  const { sessionKey } = await register()
  for (const caller of [bearer(token), bearer('x'), admin]) {
    await expect(service.reportProgress({ deployment, ...progress }, caller)).rejects.toMatchObject({
      code: 'token-refused',
    })
  }
  await armDeployment(world, deployment, 'nonce-2')
  await expect(service.reportProgress({ deployment, ...progress }, bearer(sessionKey))).rejects.toMatchObject({
    code: 'token-refused',
  })
})

test('progress shows, and a cancelled agent is told to stop', async () => {
  const { sessionKey } = await register()
  expect(await service.reportProgress({ deployment, ...progress }, bearer(sessionKey))).toEqual({ action: 'continue' })
  expect((await control.getDeployment({ deployment }, admin)).deployment).toMatchObject(progress)
  await control.cancelRollout({ rollout: 1 }, admin)
  expect(await service.reportProgress({ deployment, ...progress }, bearer(sessionKey))).toMatchObject({
    action: 'stop',
  })
  const { instructions } = await service.getInstructions({ deployment }, bearer(sessionKey))
  expect(instructions).toMatchObject({ action: 'stop', reason: expect.stringContaining('cancelled') })
})

test('the boot record is back before completion is answered, and completing twice is the same', async () => {
  const { sessionKey } = await register()
  const complete = () => service.completeDeployment({ deployment, proof: exampleProof }, bearer(sessionKey))
  expect(await complete()).toEqual({ action: 'continue' })
  expect(await state()).toBe('rebooting')
  expect((await control.listBoot({ nodeset: 'n1' }, admin)).records[0]?.target).toBe('local')
  expect(await complete()).toEqual({ action: 'continue' })
  expect((await control.getDeployment({ deployment }, admin)).deployment.proof).toEqual(exampleProof)
})

test('a failure ends the deployment with step, code, words and log, and late reports change nothing', async () => {
  const { sessionKey } = await register()
  const failure = {
    step: 'disk',
    code: 'disk-none',
    message: ['no disk fits', 'only /dev/vda'],
    log: 'the tail',
  } as const
  await service.reportFailure({ deployment, ...failure, message: [...failure.message] }, bearer(sessionKey))
  const { deployment: view } = await control.getDeployment({ deployment }, admin)
  expect(view).toMatchObject({
    state: 'failed',
    failedStep: 'disk',
    failure: { code: 'disk-none', message: ['no disk fits', 'only /dev/vda'] },
    log: 'the tail',
  })
  expect((await control.listBoot({ nodeset: 'n1' }, admin)).records[0]?.target).toBe('local')
  const late = await service.completeDeployment({ deployment, proof: exampleProof }, bearer(sessionKey))
  expect(late).toMatchObject({ action: 'stop' })
  expect(await state()).toBe('failed')
})

test('a report that is overtaken by a later one changes nothing, and neither does the same one again', async () => {
  const { sessionKey } = await register()
  const report = (sequence: number, doneBytes: number) =>
    service.reportProgress({ deployment, ...progress, sequence, doneBytes }, bearer(sessionKey))
  expect(await report(7, 9)).toEqual({ action: 'continue' })
  expect(await report(6, 5)).toEqual({ action: 'continue' })
  expect(await report(7, 5)).toEqual({ action: 'continue' })
  expect((await control.getDeployment({ deployment }, admin)).deployment.doneBytes).toBe(9)
})

test('an agent that is too old is told so, and its deployment ends with the same words', async () => {
  const old = { ...registration(), agentVersion: '0.0.9' }
  const words = 'the scout has an agent of version 0.0.9, and this service takes 0.1.0 and later'
  await expect(service.registerHost(old, bearer(token))).rejects.toMatchObject({
    code: 'agent-too-old',
    message: words,
  })
  expect((await control.getDeployment({ deployment }, admin)).deployment).toMatchObject({
    state: 'failed',
    failure: { code: 'agent-too-old', message: [words] },
  })
  expect((await control.listBoot({ nodeset: 'n1' }, admin)).records[0]?.target).toBe('local')
})

test('what an agent could not do may be tried again as often as the setup says, and no more', async () => {
  const failure = { step: 'transfer', code: 'origin-unreachable', log: '' } as const
  for (const attempt of [1, 2, 3]) {
    const { sessionKey } = await register()
    const report = { deployment, ...failure, message: ['no route'] }
    await service.reportFailure(report, bearer(sessionKey))
    // The key has died with the attempt, or the attempt is the last.
    const again = service.reportFailure(report, bearer(sessionKey))
    if (attempt < 3) await expect(again).rejects.toMatchObject({ code: 'token-refused' })
    else await again
    expect(await state()).toBe(attempt < 3 ? 'powering' : 'failed')
    if (attempt < 3) token = await armDeployment(world, deployment, `nonce-${attempt + 1}`)
  }
})
