// The plan of a rollout: what each host would get, on which of its disks, and what is known to go wrong, before any
// machine is switched. A rollout starts by the same plan; docs/setup.md tells the checks.
import type { Disk, Inventory } from '../contract/types.ts'
import { approvedDisksOf } from '../db/approved-disks.ts'
import { openDeployments } from '../db/deployments.ts'
import { type Host, interfacesOf, inventoriesOf, powerMethodsOf } from '../db/hosts.ts'
import { findImage, type Image } from '../db/images.ts'
import type { Db } from '../db/open.ts'
import { failuresInRow, type LastProof, lastProofs } from '../db/past-deployments.ts'
import { findScript, type Script } from '../db/scripts.ts'
import { findSetup, type StoredSetup } from '../db/setups.ts'
import { readManifest } from '../image/library.ts'
import { foldNodeset } from '../lib/nodeset.ts'
import { type ApprovedDisk, checkIdentity, type IdentityStanding, standingOf } from '../model/approved-disk.ts'
import { chooseDisks } from '../model/choose-disk.ts'
import { type Excluded, type ExclusionChoice, type ExclusionReason, failuresInRowMax } from '../model/exclusion.ts'
import { causeChain, Failure } from '../model/failure.ts'
import { formatImageReference } from '../model/image.ts'
import { imagesOf, type LayoutDisk } from '../model/layout.ts'
import { checkImages, firmwareWarnings, type KnownImages, refuseDisk } from '../model/layout-fit.ts'
import { type BusyCourse, faultOf, inOrder, type Policy, type PolicyOrder, policyFor } from '../model/rollout-policy.ts'
import { parseSetup, type Setup } from '../model/setup.ts'
import { refuseUnknownProfile } from './boot.ts'
import { fillPostInstall } from './post-install.ts'
import { knownImages, refuseTemplate } from './setup-check.ts'
import type { World } from './world.ts'

/** What the caller asks for, and which checks he has decided already. */
export type PlanOrder = {
  readonly setup?: string | undefined
  readonly acceptNewDisk?: boolean | undefined
  readonly ignoreInventory?: boolean | undefined
  readonly ifBusy?: BusyCourse | undefined
  readonly exclude?: readonly ExclusionChoice[] | undefined
  /** Names of protected hosts that are meant. */
  readonly protectedMeant?: ReadonlySet<string> | undefined
  readonly policy?: PolicyOrder | undefined
}

export type PlannedDisk = { readonly name: string; readonly disk: Disk; readonly standing: IdentityStanding }

export type HostPlan = {
  readonly host: Host
  readonly seenAt: number | undefined
  readonly disks: readonly PlannedDisk[]
  /** What is on its disks, as far as a deployment has proven it. */
  readonly holds: LastProof | undefined
  /** The rollout whose end it would wait for. */
  readonly behind: number | undefined
  /** Why the host cannot be deployed; the sentences do not name it. */
  readonly refusals: readonly Failure[]
  readonly warnings: readonly string[]
}

export type Plan = {
  readonly stored: StoredSetup
  readonly setup: Setup
  /** In the order of the setup, one at least. */
  readonly images: readonly Image[]
  /** What each reference of the setup to the library means now. */
  readonly scripts: ReadonlyMap<string, Script>
  readonly warnings: readonly string[]
  /** Those that go, in the order in which they begin. */
  readonly hosts: readonly HostPlan[]
  readonly excluded: readonly Excluded[]
  /** In numbers of the hosts that go. */
  readonly policy: Policy
}

/**
 * Plans a rollout. What is wrong with the order or the setup itself is thrown (Failures `bad-input`, `unknown-setup`,
 * `unknown-image`, `unknown-script`, `unknown-profile`, `setup-invalid`), what is wrong with a host is in its plan.
 */
export async function planRollout(
  { library, bootBase }: Pick<World, 'library' | 'bootBase'>,
  db: Db,
  { hosts, ...order }: PlanOrder & { readonly hosts: readonly Host[] },
): Promise<Plan> {
  const stored = await findSetup(db, setupFor(hosts, order.setup))
  const setup = parseSetup(stored.xml)
  const images: Image[] = []
  for (const reference of imagesOf(setup.layout)) images.push(await findImage(db, reference))
  await refuseUnknownProfile(db, setup.finish.target, 'setup')
  const scripts = await scriptsFor(db, setup)
  const { known, warnings } = await withSectors(library, setup, images)
  const problem = checkImages(setup.layout, known)
  if (problem !== undefined) throw new Failure('setup-invalid', problem.sentence, { at: 'setup' })
  const ids = hosts.map((host) => host.id)
  const [open, methods, interfaces, inventories, approved, proofs, failures] = [
    await openDeployments(db, ids),
    await powerMethodsOf(db, ids),
    await interfacesOf(db, ids),
    await inventoriesOf(db, ids),
    await approvedDisksOf(db, ids),
    await lastProofs(db, ids),
    await failuresInRow(db, ids),
  ]
  const common = { setup, images: known, scripts, service: bootBase, order }
  const planned = hosts.map((host) => {
    const inventory = order.ignoreInventory === true ? undefined : inventories.get(host.id)
    const facts = {
      host,
      holds: proofs.get(host.id),
      rollout: open.get(host.id)?.rollout_id,
      wasSeen: inventories.has(host.id),
      failuresInRow: failures.get(host.id) ?? 0,
      hasPower: (methods.get(host.id) ?? []).length > 0,
      interfaces: interfaces.get(host.id) ?? [],
      // Stored by registerHost, checked by the contract when it came.
      inventory: inventory && { seenAt: inventory.at, ...(JSON.parse(inventory.json) as Inventory) },
      approved: approved.get(host.id) ?? [],
    }
    const plan = planHost(common, facts)
    return { plan, excluded: exclusionOf(facts, plan, order) }
  })
  const going = planned.filter(({ excluded }) => excluded === undefined).map(({ plan }) => plan)
  const excluded = planned.flatMap((one) => one.excluded ?? [])
  return { stored, setup, images, scripts, warnings, excluded, ...ordered(going, order.policy ?? {}) }
}

/** The hosts in the order of the policy. Failure `bad-input` when it makes no sense for so many. */
function ordered(hosts: readonly HostPlan[], policy: PolicyOrder): Pick<Plan, 'hosts' | 'policy'> {
  const fault = faultOf(policy, hosts.length)
  if (fault) throw new Failure('bad-input', fault.sentence, { at: `policy.${fault.field}` })
  const order = inOrder(
    hosts.map((plan) => ({ plan, site: plan.host.site, rack: plan.host.rack })),
    policy.order ?? 'given',
  )
  return { hosts: order.map(({ plan }) => plan), policy: policyFor(policy, hosts.length) }
}

/** Why a host is left out, by what the order says of such hosts; undefined when it goes, or refuses the rollout. */
function exclusionOf(known: KnownHost, { refusals }: HostPlan, order: PlanOrder): Excluded | undefined {
  const { host, rollout, hasPower, wasSeen } = known
  const leftOut = (reason: ExclusionReason, text: string) => ({ host: host.name, reason, text })
  const chosen = new Set(order.exclude ?? [])
  if (rollout !== undefined && order.ifBusy === 'exclude') return leftOut('in-rollout', `in rollout ${rollout}`)
  if (chosen.has('protected') && isForbidden(host, order)) {
    return leftOut('protected', `protected: ${host.protected_reason}`)
  }
  if (chosen.has('no-power-method') && !hasPower) return leftOut('no-power-method', 'no power method')
  if (chosen.has('unknown-disk') && !wasSeen) return leftOut('unknown-disk', 'its disks were never seen')
  if (chosen.has('failed-twice') && known.failuresInRow >= failuresInRowMax) {
    return leftOut('failed-twice', `its last ${known.failuresInRow} deployments failed`)
  }
  const [refusal] = refusals
  if (chosen.has('refused') && refusal) return leftOut('refused', causeChain(refusal).join(': ').slice(0, 4000))
  return undefined
}

function isForbidden({ name, protected_reason }: Host, { protectedMeant }: PlanOrder): boolean {
  return protected_reason !== null && protectedMeant?.has(name) !== true
}

function setupFor(hosts: readonly Host[], setup: string | undefined): string {
  if (hosts.length === 0) throw new Failure('bad-input', 'the nodeset has no hosts', { at: 'nodeset' })
  const references = new Set(hosts.map((host) => setup ?? host.setup))
  const [reference] = references
  if (references.size === 1 && typeof reference === 'string') return reference
  throw new Failure('bad-input', 'name the setup: the hosts have none, or different ones, of their own', {
    at: 'setup',
  })
}

async function scriptsFor(db: Db, { postInstall }: Setup): Promise<Map<string, Script>> {
  const scripts = new Map<string, Script>()
  for (const { library, isTemplate } of postInstall?.scripts ?? []) {
    if (library === undefined) continue
    const script = await findScript(db, library)
    if (postInstall !== undefined && isTemplate) refuseTemplate(script, postInstall)
    scripts.set(library, script)
  }
  return scripts
}

/** The images of whole disks have a partition table made for sectors of one size, which only their manifests tell. */
async function withSectors(
  library: World['library'],
  { layout }: Setup,
  images: readonly Image[],
): Promise<{ known: KnownImages; warnings: string[] }> {
  const known = new Map(knownImages(images))
  const warnings: string[] = []
  const whole = new Set(layout.disks.map(({ content }) => (content?.kind === 'image' ? content.image : undefined)))
  for (const image of images) {
    const reference = formatImageReference(image)
    const facts = known.get(reference)
    if (!whole.has(reference) || facts === undefined) continue
    try {
      const { sectorBytes } = await readManifest(library, image.digest)
      known.set(reference, { ...facts, sectorBytes })
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      warnings.push(`the manifest of image ${reference} cannot be read: ${causeChain(error).join(': ')}`)
    }
  }
  return { known, warnings }
}

type Common = {
  readonly setup: Setup
  readonly images: KnownImages
  readonly scripts: ReadonlyMap<string, Script>
  readonly service: string
  readonly order: PlanOrder
}

type KnownHost = {
  readonly host: Host
  /** The one that has it, or will. */
  readonly rollout: number | undefined
  readonly holds: LastProof | undefined
  readonly wasSeen: boolean
  readonly failuresInRow: number
  readonly hasPower: boolean
  readonly interfaces: readonly { readonly mac: string; readonly ip: string | null }[]
  readonly inventory: (Inventory & { readonly seenAt: number }) | undefined
  readonly approved: readonly ApprovedDisk[]
}

function planHost(common: Common, known: KnownHost): HostPlan {
  const { setup, order } = common
  const { host, inventory } = known
  const refusals: Failure[] = []
  const attempt = (work: () => void): void => {
    try {
      work()
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      refusals.push(error)
    }
  }
  attempt(() => refuseForbidden(known, order))
  attempt(() => refuseUnready(known))
  attempt(() => tryPostInstall(common, known))
  const warnings = [...historyWarnings(known, order), ...networkWarnings(setup, known)]
  const disks: PlannedDisk[] = []
  if (inventory === undefined) {
    warnings.push(
      order.ignoreInventory === true
        ? 'what is known of its disks was not looked at: its agent decides'
        : 'its disks were never seen: its agent decides',
    )
  } else {
    attempt(() => disks.push(...planDisks(setup.layout.disks, inventory.disks, known.approved)))
    for (const { name, disk } of disks) {
      const wanted = setup.layout.disks.find((one) => one.name === name)
      if (wanted) attempt(() => refuseDisk(wanted, disk, common.images))
      if (order.acceptNewDisk !== true) attempt(() => checkIdentity(name, disk, known.approved))
    }
    warnings.push(...firmwareWarnings(setup.layout, setup.postInstall, inventory.firmware))
  }
  return { host, seenAt: inventory?.seenAt, disks, holds: known.holds, behind: known.rollout, refusals, warnings }
}

function planDisks(
  wanted: readonly LayoutDisk[],
  seen: readonly Disk[],
  approved: readonly ApprovedDisk[],
): PlannedDisk[] {
  const chosen = chooseDisks(seen, wanted)
  return wanted.flatMap(({ name }) => {
    const disk = chosen.get(name)
    return disk === undefined ? [] : [{ name, disk, standing: standingOf(name, disk, approved) }]
  })
}

function historyWarnings({ rollout, failuresInRow: failures }: KnownHost, { ifBusy }: PlanOrder): string[] {
  return [
    ...(rollout === undefined || ifBusy !== 'queue' ? [] : [`it waits for the end of rollout ${rollout}`]),
    ...(failures >= failuresInRowMax ? [`its last ${failures} deployments failed`] : []),
  ]
}

function refuseForbidden({ host, rollout }: KnownHost, order: PlanOrder): void {
  if (isForbidden(host, order)) throw new Failure('host-protected', `protected: ${host.protected_reason}`)
  if (rollout !== undefined && order.ifBusy !== 'queue') {
    throw new Failure('wrong-state', `in rollout ${rollout}: wait for it or cancel it`)
  }
}

function refuseUnready({ hasPower, interfaces }: KnownHost): void {
  if (!hasPower) throw new Failure('no-power-method', 'no power method')
  if (interfaces.length === 0) throw new Failure('wrong-state', 'no interface to boot from')
}

/** Everything that is filled in for the host is filled in once now, so that what it lacks is known. */
function tryPostInstall({ setup, scripts, service }: Common, { host, interfaces }: KnownHost): void {
  if (setup.postInstall === undefined) return
  const [image] = imagesOf(setup.layout)
  const texts = new Map([...scripts].map(([reference, { text }]) => [reference, text]))
  fillPostInstall(setup.postInstall, texts, {
    host: host.name,
    site: host.site,
    rack: host.rack,
    interfaces,
    deployment: 1,
    image: image ? formatImageReference(image) : '',
    service,
  })
}

function networkWarnings({ postInstall }: Setup, { interfaces }: KnownHost): string[] {
  const { mode, gateway, prefixLength } = postInstall?.network ?? { mode: 'keep' }
  const ip = interfaces.find((one) => one.ip !== null)?.ip
  if (mode !== 'static' || gateway === undefined || prefixLength === undefined || ip == null) return []
  const networkOf = (address: string): number =>
    Math.floor(address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0) / 2 ** (32 - prefixLength))
  return networkOf(ip) === networkOf(gateway)
    ? []
    : [`the gateway ${gateway} is not in the network of ${ip}/${prefixLength}`]
}

/** As many kinds of refusals as one sentence can tell; the plan tells them all. */
const toldMax = 8

/** Throws the Failure of a plan that cannot start: the code of the first refusal, and which hosts are refused for what. */
export function refuseImpossible(plan: Plan): void {
  const hostsBy = new Map<string, string[]>()
  const all = plan.hosts.flatMap(({ host, refusals }) => refusals.map((refusal) => ({ host: host.name, refusal })))
  for (const { host, refusal } of all) {
    const sentence = causeChain(refusal).join(': ').slice(0, 400)
    hostsBy.set(sentence, [...(hostsBy.get(sentence) ?? []), host])
  }
  const [first] = all
  if (first === undefined) return
  const told = [...hostsBy].slice(0, toldMax).map(([sentence, hosts]) => `${someOf(hosts)}: ${sentence}`)
  const more = hostsBy.size > toldMax ? [`and ${hostsBy.size - toldMax} more: plan it to see them all`] : []
  throw new Failure(first.refusal.code, [...told, ...more].join('; '), { at: 'nodeset' })
}

/** Hosts in a few words, however they are called. */
export function someOf(hosts: readonly string[]): string {
  const nodeset = foldNodeset(hosts)
  return nodeset.length <= 200 ? nodeset : `${hosts.length} hosts (${nodeset.slice(0, 200)}...)`
}
