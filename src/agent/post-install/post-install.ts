// The step `post-install`: makes the copy of an image a system of its own, on the host's disk and never in the image. The
// images were read back before it; what changed the disks afterwards stands in the record, action by action.
import type { ProofAction } from '../../contract/types.ts'
import type { Work } from '../../contract/work-types.ts'
import { Failure } from '../../model/failure.ts'
import type { Layout } from '../../model/layout.ts'
import { actionsInRoot, type ImageFacts, problemOfPostInstall } from '../../model/post-install-rules.ts'
import type { Place } from '../place.ts'
import { type Action, done, fileActionMs, perform, type Recorder, skipped } from './action.ts'
import { writeSeed } from './cloud-init.ts'
import { nameOf, type SeenFileSystem, seeFileSystems } from './file-systems.ts'
import { findRoot } from './find-root.ts'
import { writeFstab } from './fstab.ts'
import { growImages } from './grow.ts'
import { addAuthorizedKeys, renewHostKeys, setHostname, setMachineId } from './identity.ts'
import { setNetwork } from './network.ts'
import type { InterfaceConfig } from './network-files.ts'
import { runScript } from './scripts.ts'
import { openTarget, type Target } from './target.ts'

export type PostInstallWork = {
  readonly order: NonNullable<Work['postInstall']>
  readonly host: string
  readonly deployment: number
  /** What HaDeS knows of the host's addresses. */
  readonly interfaces: Work['interfaces']
  /** The interfaces that the machine has. */
  readonly seenInterfaces: readonly { readonly mac: string; readonly carrier: boolean }[]
  /** Of the interface that booted the scout, where the loader said which. */
  readonly bootMac?: string | undefined
}

/** A whole file system is checked before it grows. */
const growMs = 3_600_000
/** Looking into every partition, and replaying journals. */
const rootMs = 600_000
/** A script's own limit ends it; this much more is for what is around it. */
const scriptMarginMs = 60_000

/**
 * Says before anything is written what cannot be done afterwards. Throws Failure `post-install-failed`, which then means
 * that the disks are as they were.
 */
export function checkPostInstall(
  work: PostInstallWork,
  layout: Layout,
  factsOf: (image: string) => ImageFacts | undefined,
): void {
  const problem = problemOfPostInstall(work.order, layout, factsOf)
  if (problem !== undefined) throw new Failure('post-install-failed', problem)
  if (work.order.network.mode !== 'keep') interfaceConfig(work)
}

/** The record, a row for each action. Throws Failure `post-install-failed` or `disk-error`, or the reason of `signal`. */
export async function postInstall(
  work: PostInstallWork,
  places: readonly Place[],
  tell: Recorder['tell'],
  signal: AbortSignal,
): Promise<ProofAction[]> {
  const recorder: Recorder = { record: [], tell }
  const act = (action: Action) => perform(action, recorder, signal)
  const { order } = work
  if (order.growLast) await act({ name: 'grow', timeoutMs: growMs, run: (signal) => growImages(places, signal) })
  const needsRoot = actionsInRoot(order).length > 0
  if (!needsRoot && order.scripts.length === 0) return recorder.record
  const scene: { target?: Target } = {}
  try {
    const seen = await seeFileSystems(places, signal)
    const findAndMount = async (signal: AbortSignal) => {
      const found = await findRoot(seen, order.root, signal).catch((error: unknown) => {
        // Scripts of the scout may be about another kind of system altogether.
        if (needsRoot || signal.aborted || !(error instanceof Failure)) throw error
        return error
      })
      if (found instanceof Failure) return skipped(`scripts run without it: ${found.message}`)
      scene.target = await openTarget(found, seen, { isReadOnly: false }, signal)
      return done(wordsOf(scene.target))
    }
    await act({ name: 'root', timeoutMs: rootMs, run: findAndMount })
    const { target } = scene
    if (target !== undefined) for (const action of actionsIn(target, work, places, seen)) await act(action)
    for (const action of scriptsIn(target, work)) await act(action)
    if (target !== undefined) for (const action of await lastIn(target, work)) await act(action)
  } finally {
    await scene.target?.close()
  }
  return recorder.record
}

function wordsOf({ root, mounts }: Target): string {
  const subvolume = root.subvolume === undefined ? '' : `, subvolume ${root.subvolume}`
  const below = mounts.map(({ at, on }) => `; ${at} is ${nameOf(on)}`)
  return `${nameOf(root.on)}${subvolume}${below.join('')}`
}

/** What is done to the files of the new system, in this order. */
function actionsIn(
  { tree }: Target,
  work: PostInstallWork,
  places: readonly Place[],
  seen: readonly SeenFileSystem[],
): readonly Action[] {
  const { order } = work
  const { hostname, authorizedKeys, network } = order
  const actions: Action[] = []
  const add = (isAsked: boolean, name: string, run: Action['run']) => {
    if (isAsked) actions.push({ name, timeoutMs: fileActionMs, run })
  }
  if (hostname !== undefined) add(true, 'hostname', () => setHostname(tree, hostname))
  add(order.newMachineId, 'machine-id', () => setMachineId(tree))
  add(order.newHostKeys, 'ssh-host-keys', (signal) => renewHostKeys(tree, hostname ?? work.host, signal))
  add(authorizedKeys.length > 0, 'authorized-keys', () => addAuthorizedKeys(tree, authorizedKeys))
  add(true, 'network', async () =>
    network.mode === 'keep'
      ? skipped('the setup keeps the network as the image has it')
      : await setNetwork(tree, interfaceConfig(work)),
  )
  add(order.writeFstab, 'fstab', () => writeFstab(tree, places, seen))
  return actions
}

function scriptsIn(target: Target | undefined, { order, host, deployment }: PostInstallWork): readonly Action[] {
  return order.scripts.map((script) => ({
    name: `script ${script.name}`,
    timeoutMs: script.timeoutMs + scriptMarginMs,
    run: (signal) => runScript(target?.tree, script, { host, deployment }, signal),
  }))
}

/** What comes after the scripts: one of them may have installed cloud-init. */
async function lastIn({ tree }: Target, { order, host, deployment }: PostInstallWork): Promise<readonly Action[]> {
  const { cloudInit } = order
  const actions: Action[] = []
  if (cloudInit !== undefined) {
    const run = () => writeSeed(tree, { ...cloudInit, host, deployment })
    actions.push({ name: 'cloud-init', timeoutMs: fileActionMs, run })
  }
  const selinux = (await tree.read('/etc/selinux/config')) ?? ''
  if (/^\s*SELINUX=\s*(enforcing|permissive)/m.test(selinux)) {
    const run = async () => {
      // New files have no label, and without one much of the system may not read them.
      await tree.write('/.autorelabel', '')
      return done('the first boot gives every file its label, and starts once more')
    }
    actions.push({ name: 'selinux', timeoutMs: fileActionMs, run })
  }
  return actions
}

/** What the booted interface is to be. Throws Failure `post-install-failed` when that cannot be said. */
export function interfaceConfig(work: PostInstallWork): InterfaceConfig {
  const { network } = work.order
  const mac = bootedMac(work)
  if (network.mode !== 'static') return { mac }
  const ip = work.interfaces.find((one) => one.mac.toLowerCase() === mac)?.ip
  if (ip === undefined) {
    const sentence = `post-install asks for a static address, and HaDeS knows none of the interface ${mac}`
    throw new Failure('post-install-failed', `${sentence}: give the host one, or ask for dhcp`)
  }
  const { prefixLength, gateway, dns } = network
  if (prefixLength === undefined) {
    throw new Failure('bad-input', 'the service sent a static network without the length of its prefix')
  }
  return { mac, fixed: { ip, prefixLength, gateway, dns } }
}

function bootedMac({ bootMac, interfaces, seenInterfaces }: PostInstallWork): string {
  if (bootMac !== undefined) return bootMac.toLowerCase()
  const known = interfaces.map(({ mac }) => mac.toLowerCase())
  const there = seenInterfaces.filter(({ mac }) => known.includes(mac.toLowerCase()))
  const one = there.find(({ carrier }) => carrier) ?? there[0]
  if (one !== undefined) return one.mac.toLowerCase()
  const seen = seenInterfaces.map(({ mac }) => mac).join(', ') || 'none'
  throw new Failure(
    'post-install-failed',
    `none of the host's interfaces that HaDeS knows (${known.join(', ') || 'none'}) is in the machine, which has ${seen}`,
  )
}
