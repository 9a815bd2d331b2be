// What a stranger on the boot network gets who claims to be a host, or who has read another's boot token.
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { bootResolver } from '../boot/resolve.ts'
import type { Caller, UserCaller } from '../contract/operation.ts'
import { Secret } from '../lib/secret.ts'
import type { Failure } from '../model/failure.ts'
import { announceWord } from '../model/token.ts'
import { controlHandlers } from './control.ts'
import { serviceHandlers } from './service.ts'
import { armDeployment, exampleInventory, nameImage, openTestWorld, type TestWorld } from './testing.ts'

let world: TestWorld
let deployment: number
const admin: UserCaller = { kind: 'user', name: 'admin', role: 'admin', address: 'unix' }
const xml = `<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>`
const [first, second] = ['11111111-1111-4111-8111-111111111111', '22222222-2222-4222-8222-222222222222']

beforeEach(async () => {
  world = await openTestWorld()
  const control = controlHandlers(world)
  for (const number of [1, 2]) {
    const interfaces = [{ mac: `52:54:00:00:00:0${number}` }]
    await control.addHost({ name: `n${number}`, interfaces, powerMethods: [{ driver: 'manual', options: [] }] }, admin)
  }
  await nameImage(world, 'debian', '12')
  await control.putSetup({ xml }, admin)
  const { rollout } = await control.startRollout({ nodeset: 'n1', setup: 'demo', acceptNewDisk: true }, admin)
  deployment = rollout.deployments[0]?.id ?? 0
})
afterEach(() => world.close())

/** What a machine is told that asks with this MAC address, from wherever it may be. */
async function scriptFor(mac: string): Promise<string> {
  const nowhere = join(world.bootFiles.netboot, 'none')
  const resolve = bootResolver({
    ...world,
    folders: { loaders: nowhere, scout: nowhere, netboot: nowhere },
    stage2Sha256: 'abc',
    imageKey: 'KEY',
    httpBase: world.bootBase,
    pinned: { url: 'https://10.77.0.1:7743', fingerprint: 'ab'.repeat(32) },
    scoutArgs: [],
    onScript: () => {},
    onStranger: () => {},
  })
  const content = await resolve({ via: 'tftp', path: `grub/${mac.replaceAll(':', '-')}`, peerAddress: '10.77.0.66' })
  return content?.kind === 'rendered' ? content.body : ''
}

const bearer = (token: string): Caller => ({ kind: 'bearer', token, address: '10.77.0.66' })

async function register(token: string, { agent = first, host = 'n1' } = {}) {
  const input = { host, agent, agentVersion: '1', inventory: exampleInventory }
  return await serviceHandlers(world)
    .registerHost(input, bearer(token))
    .catch((error: Failure) => error.code)
}

test('who forges a MAC address gets a token only of a host whose deployment waits for its machine', async () => {
  const token = await armDeployment(world, deployment)
  expect(await scriptFor('52:54:00:00:00:01')).toContain(`hades.token=${token}`)
  for (const mac of ['52:54:00:00:00:02', '52:54:00:00:00:99'])
    expect(await scriptFor(mac)).not.toContain('hades.token')
  expect(await register(token)).toMatchObject({ deployment })
  // The agent is at work: whoever asks as this host from now on waits.
  expect(await scriptFor('52:54:00:00:00:01')).not.toContain('hades.token')
})

test('a boot token that was read by somebody else and shown again is refused, and the agent goes on', async () => {
  const token = await armDeployment(world, deployment)
  expect(await register(token, { agent: second, host: 'n2' })).toBe('token-refused')
  expect(await register(token)).toMatchObject({ deployment })
  expect(await register(token, { agent: second })).toBe('token-refused')
  expect(await register(token)).toMatchObject({ deployment })
})

test('without a good token nobody learns which hosts there are, or which are being deployed', async () => {
  await armDeployment(world, deployment)
  const { registerHost } = serviceHandlers(world)
  const answers = []
  for (const host of ['n1', 'n2', 'no-such-host']) {
    for (const caller of [bearer('a guess'), { kind: 'stranger', address: '10.77.0.66' } as const]) {
      const input = { host, agent: first, agentVersion: '1', inventory: exampleInventory }
      const { code, message, at, cause } = (await registerHost(input, caller).catch(
        (error: Failure) => error,
      )) as Failure
      answers.push({ code, message, at, cause })
    }
  }
  expect(answers[0]?.code).toBe('token-refused')
  for (const answer of answers) expect(answer).toEqual(answers[0])
  // The host's own story says more.
  const { events } = await controlHandlers(world).listEvents({ nodeset: 'n2' }, admin)
  expect(events.at(-1)?.text).toBe('an agent at 10.77.0.66 was refused: no deployment of n2 is under way')
})

test('a boot token of an attempt that was given up is refused', async () => {
  const old = await armDeployment(world, deployment, 'nonce-1')
  await armDeployment(world, deployment, 'nonce-2')
  expect(await register(old)).toBe('token-refused')
})

test('the word of an announce, which goes in clear, opens no operation', async () => {
  const registered = await register(await armDeployment(world, deployment))
  if (typeof registered === 'string') throw new Error(registered)
  const { getInstructions } = serviceHandlers(world)
  const seen = announceWord(new Secret(registered.sessionKey)).reveal()
  await expect(getInstructions({ deployment }, bearer(seen))).rejects.toMatchObject({ code: 'token-refused' })
  expect(await getInstructions({ deployment }, bearer(registered.sessionKey))).toHaveProperty('instructions')
})

test('the scout is told which certificate its service must show', async () => {
  await armDeployment(world, deployment)
  expect(await scriptFor('52:54:00:00:00:01')).toContain(
    `hades.service=https://10.77.0.1:7743 hades.pin=${'ab'.repeat(32)}`,
  )
})
