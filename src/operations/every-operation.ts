// Every operation called once, successfully, in an order in which each finds what it needs: for tests that must see all of
// them work, by whichever face and on whichever database the clients speak. The machines' and the engine's part is played.
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { controlOperations } from '../contract/control.ts'
import type { PortClient } from '../contract/operation.ts'
import type { powerOperations } from '../contract/power.ts'
import type { serviceOperations } from '../contract/service.ts'
import { recordSighting } from '../db/discovered.ts'
import { addEvent } from '../db/events.ts'
import { bury, findWebhook } from '../db/webhooks.ts'
import { until } from '../lib/until.ts'
import { captureIntake } from './capture-intake.ts'
import {
  armDeployment,
  armReport,
  exampleInventory,
  exampleProof,
  nameImage,
  putState,
  type TestWorld,
} from './testing.ts'

type Clients = {
  readonly control: PortClient<typeof controlOperations>
  readonly power: PortClient<typeof powerOperations>
  readonly service: PortClient<typeof serviceOperations>
}

/** What the scenario is played in. */
export type Stage = {
  readonly world: TestWorld
  /** Clients that come with this token; the administrator's without one. */
  readonly as: (token?: string) => Clients
  /** Takes whatever is sent to it by HTTP. */
  readonly webhookUrl: string
}

const setupXml = '<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>'
const manual = { driver: 'manual', options: [] }
const password = 'correct horse battery'
const soon = { timeoutMs: 30_000 }

/** Calls every operation of the three ports. */
export async function callEveryOperation(stage: Stage): Promise<void> {
  await nameImage(stage.world, 'debian', '12')
  await callSetups(stage)
  await callHosts(stage)
  await callImages(stage)
  await callUsers(stage)
  await callBoot(stage)
  await callRollouts(stage)
  await callDeployed(stage)
  await callErase(stage)
  await callCapture(stage)
  await callEvents(stage)
  await callRemovals(stage)
}

/** Makes anew what calls may have taken away or changed; what is there still stays. */
export async function prepareAnew({ world, as, webhookUrl }: Stage): Promise<void> {
  const { control } = as()
  await nameImage(world, 'debian', '12').catch(() => {})
  const interfaces = (n: number) => [{ mac: `52:54:00:00:00:0${n}`, ip: `10.77.0.1${n}` }]
  await Promise.allSettled([
    ...[1, 2, 3].flatMap((n) => [
      control.addHost({ name: `n${n}`, interfaces: interfaces(n), powerMethods: [manual] }),
      control.changeHost({ name: `n${n}`, interfaces: interfaces(n), powerMethods: [manual], protected: '' }),
    ]),
    control.putSetup({ xml: setupXml }),
    control.putScript({ name: 'greet', text: 'echo hello' }),
    control.addUser({ name: 'alice', role: 'operator' }),
    control.putProfile({ name: 'rescue', kernel: 'vmlinuz' }),
    control.putWebhook({ name: 'hook', url: webhookUrl, secret: 'sixteen letters!' }),
  ])
}

async function callSetups({ as }: Stage): Promise<void> {
  const { control } = as()
  await control.getStatus({})
  await control.validateSetup({ xml: setupXml })
  await control.putSetup({ xml: setupXml })
  await control.putSetup({ xml: setupXml })
  await control.getSetup({ reference: 'demo:1' })
  await control.listSetups({ name: 'demo', versions: true, limit: 1 })
  await control.diffSetups({ from: 'demo:1', to: 'demo:2', withText: true })
  await control.putScript({ name: 'greet', text: 'echo hello' })
  await control.getScript({ reference: 'greet' })
  await control.listScripts({ name: 'greet' })
  await control.removeScript({ reference: 'greet:1' })
}

async function callHosts({ world, as }: Stage): Promise<void> {
  const { control, power } = as()
  for (const n of [1, 2, 3]) {
    const interfaces = [{ mac: `52:54:00:00:00:0${n}`, ip: `10.77.0.1${n}` }]
    await control.addHost({ name: `n${n}`, site: 'turin', rack: 'r1', interfaces, powerMethods: [manual] })
  }
  await control.changeHost({ name: 'n3', rack: 'r2', loader: 'ipxe', powerMethods: [manual] })
  await control.getHost({ name: 'n1' })
  await control.listHosts({ nodeset: 'n[1-3]', site: 'turin', sort: 'place', limit: 2 })
  const text =
    'hosts:\n  - name: n4\n    interfaces:\n      - mac: 52:54:00:00:00:04\n    powerMethods:\n      - driver: manual\n'
  await control.importHosts({ format: 'yaml', text, dryRun: false })
  for (const n of [5, 6]) {
    await recordSighting(world.db, { mac: `52:54:00:00:00:0${n}`, source: 'dhcp', said: 'a loader' }, world.now())
  }
  await control.listDiscovered({ state: 'waiting' })
  await reportAsStranger({ world, as }, '52:54:00:00:00:06')
  await control.getDiscovered({ mac: '52:54:00:00:00:06' })
  await control.approveDiscovered({ mac: '52:54:00:00:00:05', name: 'n5', powerMethods: [manual] })
  await control.ignoreDiscovered({ mac: '52:54:00:00:00:06', ignore: true })
  await control.forgetDiscovered({ mac: '52:54:00:00:00:06' })
  await control.setDiscovery({ policy: 'local' })
  await control.setSite({ name: 'turin', egressBytesPerSecond: 10_000_000 })
  await control.listSites({ limit: 10 })
  await power.listPowerDrivers({})
  await power.getPower({ nodeset: 'n[1-2]' })
  await power.setPower({ nodeset: 'n1', action: 'on', method: 1 })
  await power.setBootDevice({ nodeset: 'n1', device: 'network' })
  await power.testPower({ host: 'n1' })
}

/** The scout of a machine that is no host reports. */
async function reportAsStranger({ world, as }: Pick<Stage, 'world' | 'as'>, mac: string): Promise<void> {
  const report = { mac, agent: randomUUID(), agentVersion: '1', inventory: exampleInventory }
  await as(await armReport(world, mac)).service.reportDiscovered(report)
}

async function callImages({ world, as }: Stage): Promise<void> {
  const { control } = as()
  const path = join(world.library.folder, 'disk.raw')
  await writeFile(path, randomBytes(8192))
  const { task } = await control.publishImage({ reference: 'tiny:1', path, kind: 'disk', description: 'a disk' })
  await until('the image', async () => (await control.getTask({ task: task.id })).task.state === 'done', soon)
  await control.listTasks({ state: 'done' })
  await control.getImage({ reference: 'tiny:1' })
  await control.listImages({ name: 'tiny', sort: 'name' })
  await control.changeImage({ reference: 'tiny:1', owner: 'ada', isProtected: false })
  await control.removeImage({ reference: 'tiny:1' })
  await control.collectImages({ dryRun: true })
  await control.getSigningKey({})
}

async function callUsers({ as }: Stage): Promise<void> {
  const { control } = as()
  await control.addUser({ name: 'alice', role: 'operator', password })
  await control.changeUser({ name: 'alice', role: 'admin' })
  await control.listUsers({})
  const { secret } = await control.login({ name: 'alice', password })
  const alice = as(secret).control
  await alice.whoAmI({})
  await alice.changePassword({ oldPassword: password, newPassword: `${password} staple` })
  const { token } = await alice.createToken({ name: 'a program', role: 'viewer', days: 3 })
  await alice.listTokens({ owner: 'alice' })
  await alice.revokeToken({ token: token.id })
  await alice.logout({})
  await control.listAudit({ user: 'alice', operation: 'createToken' })
  await control.listKeys({})
  await control.rotateKeys({})
  await control.getCertificate({})
  await control.removeUser({ name: 'alice' })
}

async function callBoot({ world, as }: Stage): Promise<void> {
  const { control } = as()
  const folder = join(world.bootFiles.netboot, 'rescue')
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'vmlinuz'), 'a kernel')
  await control.putProfile({ name: 'rescue', kernel: 'vmlinuz', arguments: 'quiet' })
  await control.getProfile({ name: 'rescue' })
  await control.listProfiles({})
  await control.setBoot({ nodeset: 'n3', target: 'scout', once: true })
  await control.listBoot({ nodeset: 'n[1-3]', target: 'scout' })
  await control.setBoot({ nodeset: 'n3', target: 'local', asDefault: true })
  await control.removeProfile({ name: 'rescue' })
  await control.runPreflight({ nodeset: 'n1' })
}

async function callRollouts({ world, as }: Stage): Promise<void> {
  const { control } = as()
  const policy = { canary: '1', concurrency: '2', stopAtFailed: '50%' }
  const order = { nodeset: 'n[1-3]', setup: 'demo', max: 5, confirm: '3', ifBusy: 'refuse', policy } as const
  await control.planRollout(order)
  const { rollout } = await control.startRollout({ ...order, engine: 'http' })
  const { id } = rollout
  await control.getRollout({ rollout: id })
  await control.listRollouts({ active: true })
  await control.getSwarm({ rollout: id, limit: 10 })
  await control.pauseRollout({ rollout: id, reason: 'coffee' })
  await control.resumeRollout({ rollout: id })
  await control.cancelRollout({ rollout: id, nodeset: 'n3', reboot: false })
  const [first = { id: 0 }] = (await control.listDeployments({ rollout: id, nodeset: 'n1' })).deployments
  await putState(world, first.id, 'failed')
  const { deployment } = await control.retryDeployment({ deployment: first.id })
  await control.getDeployment({ deployment: deployment.id })
  await putState(world, deployment.id, 'failed')
  await control.retryRollout({ rollout: id, which: 'failed' })
  await control.cancelRollout({ rollout: id })
}

/** Registers the agent of a deployment, and returns clients that come with its session key. */
async function register({ world, as }: Stage, host: string, deployment: number): Promise<Clients['service']> {
  const token = await armDeployment(world, deployment)
  const registration = { host, agent: randomUUID(), agentVersion: '1', inventory: exampleInventory }
  const { sessionKey } = await as(token).service.registerHost(registration)
  return as(sessionKey).service
}

async function callDeployed(stage: Stage): Promise<void> {
  const { world, as } = stage
  const { control } = as()
  const begun = async (host: string) => {
    const { rollout } = await control.startRollout({ nodeset: host, setup: 'demo' })
    return rollout.deployments[0]?.id ?? 0
  }
  const failing = await begun('n2')
  const agent = await register(stage, 'n2', failing)
  await agent.getInstructions({ deployment: failing })
  const bytes = { doneBytes: 1, totalBytes: 2, bytesPerSecond: 1.5 }
  await agent.reportProgress({ deployment: failing, step: 'transfer', sequence: 1, ...bytes })
  await agent.reportEvent({ deployment: failing, kind: 'note', text: 'a slow disk' })
  const said = { message: ['the disk broke', 'EIO'], log: 'lines' }
  await agent.reportFailure({ deployment: failing, step: 'transfer', code: 'disk-error', ...said })
  const id = await begun('n1')
  await (await register(stage, 'n1', id)).completeDeployment({ deployment: id, proof: exampleProof })
  await addEvent(world.db, { source: 'engine', kind: 'done', text: 'was observed', deploymentId: id }, world.now())
  await putState(world, id, 'done')
  await control.getProof({ deployment: id })
  await control.explainHost({ host: 'n1', deployment: id, console: 'Linux version 6.12' })
}

async function callErase(stage: Stage): Promise<void> {
  const { control } = stage.as()
  const { rollout } = await control.startErase({ nodeset: 'n2', method: 'zero', disk: 'all', confirm: 1 })
  const deployment = rollout.deployments[0]?.id ?? 0
  const disks = [{ path: '/dev/vda', sizeBytes: 100, text: 'all read as zeros now', seconds: 1 }]
  const report = { disks, steps: [{ step: 'erase', seconds: 1 }] }
  await (await register(stage, 'n2', deployment)).completeErase({ deployment, report })
  await control.getErasure({ deployment })
  await putState(stage.world, deployment, 'done')
}

async function callCapture(stage: Stage): Promise<void> {
  const { world, as } = stage
  const { control } = as()
  const hint = { property: 'path', operator: 'eq', value: '/dev/vda' } as const
  const order = { host: 'n2', image: 'golden:1', finish: 'reboot' } as const
  const deployment = (await control.startCapture({ ...order, hints: [hint] })).capture.deployment.id
  const token = await armDeployment(world, deployment)
  const registration = { host: 'n2', agent: randomUUID(), agentVersion: '1', inventory: exampleInventory }
  const { sessionKey } = await as(token).service.registerHost(registration)
  const agent = as(sessionKey).service
  await agent.beginCapture({ deployment, sizeBytes: 1024 * 1024, sectorBytes: 512, fromStart: false })
  const caller = { kind: 'bearer', token: sessionKey, address: 'test' } as const
  await captureIntake(world).takeFrame({ kind: 'zeros', deployment, frame: 0, count: 1 }, caller)
  const hygiene = { systems: [], findings: [], notSeen: [] }
  const read = { diskPath: '/dev/vda', diskSizeBytes: 1024 * 1024, bytesRead: 1024 * 1024, bytesSent: 0 }
  const report = { ...read, hygiene, steps: [{ step: 'capture', seconds: 1 }] }
  await until(
    'the captured image',
    async () => (await agent.completeCapture({ deployment, report })).state === 'published',
    soon,
  )
  await control.getCapture({ deployment })
  await control.listCaptures({ nodeset: 'n2', limit: 1 })
  const next = (await control.startCapture({ host: 'n3', image: 'golden:2' })).capture.deployment.id
  await control.cancelCapture({ deployment: next })
  await putState(world, deployment, 'done')
}

async function callEvents({ world, as, webhookUrl }: Stage): Promise<void> {
  const { control } = as()
  const { events } = await control.listEvents({ nodeset: 'n1', kinds: ['rollout-*', 'completed'], limit: 2, waitMs: 5 })
  await control.putWebhook({ name: 'hook', url: webhookUrl, secret: 'sixteen letters!', kinds: ['completed'] })
  await control.listWebhooks({})
  const { id } = await findWebhook(world.db, 'hook')
  await bury(world.db, id, [events[0]?.id ?? 0], { said: 'nobody was there', now: world.now() })
  const [dead] = (await control.listDeadDeliveries({ webhook: 'hook' })).deliveries
  await control.retryDelivery({ delivery: dead?.id ?? 0 })
}

async function callRemovals({ as }: Stage): Promise<void> {
  const { control } = as()
  await control.removeWebhook({ name: 'hook' })
  await control.removeHost({ name: 'n5' })
}
