// The data types that operations exchange. Only what XML Schema and JSON Schema can both say: strings, integers,
// numbers, booleans, closed sets of words, objects and lists of objects or scalars. A `title` makes a type one with a
// name in the WSDL and the OpenAPI document; what has the same title must be the same type.
import { type Static, type TEnum, Type } from 'typebox'
import { type BootTarget, bootTargetForms, bootTargetPattern } from '../model/boot.ts'
import { deploymentKinds, hygieneKinds } from '../model/capture.ts'
import { rolloutStates } from '../model/conduct.ts'
import { deploymentStates, deploymentSteps } from '../model/deployment.ts'
import { exclusionReasons } from '../model/exclusion.ts'
import { failureCodes } from '../model/failure.ts'
import { diskHintOperators, diskProperties, loaders } from '../model/host.ts'
import { contentKinds, redeployModes } from '../model/layout.ts'
import { bootDevices, powerActions, powerStates } from '../model/power.ts'
import { rebootStates } from '../model/reboot.ts'
import { failureCourses, hostOrders, spareUses } from '../model/rollout-policy.ts'
import { transferEngines } from '../model/swarm.ts'
import { bytesPerSecondMin, lingerSecondsMax } from '../model/transfer-policy.ts'
import { triedSteps, triesMax } from '../model/tries.ts'

/** A closed set of words. */
export function words<const W extends string>(
  values: readonly W[],
  options: { title?: string; description?: string } = {},
): TEnum<W[]> {
  return Type.Enum([...values], options)
}

export const hostName = Type.String({
  title: 'HostName',
  pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
  description: 'A host name: lower-case letters, digits and hyphens',
})
export const nodeset = Type.String({
  title: 'Nodeset',
  minLength: 1,
  maxLength: 4000,
  description: 'Hosts, as `n[001-072],!n013`; `*` is every host',
})
export const mac = Type.String({
  title: 'Mac',
  pattern: '^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$',
  description: 'A MAC address, as 52:54:00:12:34:56',
})
export const ipv4 = Type.String({
  title: 'Ipv4',
  pattern: '^\\d{1,3}(\\.\\d{1,3}){3}$',
  description: 'An IPv4 address',
})
export const dateTime = Type.String({ format: 'date-time' })
export const id = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })
export const bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: 'Bytes' })
/** A limit of bytes a second. */
export function rateLimit(description: string) {
  return Type.Integer({ minimum: bytesPerSecondMin, maximum: Number.MAX_SAFE_INTEGER, description })
}
export const imageReference = Type.String({
  title: 'ImageReference',
  maxLength: 190,
  pattern: '^[a-z0-9][a-z0-9._-]*:[a-z0-9][a-z0-9._-]*$',
  description: 'An image, as `name:version`',
})
export const setupReference = Type.String({
  title: 'SetupReference',
  maxLength: 190,
  pattern: '^[a-z0-9][a-z0-9._-]*(:[0-9]+)?$',
  description: 'A setup, as `name` (its newest version) or `name:version`',
})
export const sha256 = Type.String({ title: 'Sha256', pattern: '^[0-9a-f]{64}$' })
const text = Type.String({ maxLength: 4000 })
const hosts = Type.Integer({ minimum: 0, maximum: 1_000_000 })
export const label = Type.String({ maxLength: 190 })

/** Unsafe only for TypeScript, which cannot read it from the pattern: what fits the pattern is a BootTarget. */
export const bootTarget = Type.Unsafe<BootTarget>(
  Type.String({
    title: 'BootTarget',
    pattern: bootTargetPattern,
    description: `What a host boots: ${bootTargetForms}`,
  }),
)
export const bootDevice = words(bootDevices, { title: 'BootDevice' })
export const powerAction = words(powerActions, { title: 'PowerAction' })
export const powerState = words(powerStates, { title: 'PowerState' })
export const deploymentState = words(deploymentStates, { title: 'DeploymentState' })
export const deploymentStep = words(deploymentSteps, { title: 'DeploymentStep' })
export const loader = words(loaders, { title: 'Loader' })
export const failureCode = words(failureCodes, { title: 'FailureCode' })

/** What went wrong: the closed code, the sentences outermost first, and the input field at fault where there is one. */
export const failureReport = Type.Object(
  {
    code: failureCode,
    message: Type.Array(text),
    at: Type.Optional(label),
  },
  { title: 'FailureReport' },
)
export type FailureReport = Static<typeof failureReport>

export const networkInterface = Type.Object({ mac, ip: Type.Optional(ipv4) }, { title: 'NetworkInterface' })

export const option = Type.Object({ name: label, value: label }, { title: 'Option' })

/** `password` is taken and never given back. */
export const powerMethod = Type.Object(
  {
    driver: label,
    address: Type.Optional(label),
    username: Type.Optional(label),
    password: Type.Optional(Type.String({ maxLength: 190 })),
    options: Type.Array(option, { maxItems: 32 }),
  },
  { title: 'PowerMethod' },
)

export const disk = Type.Object(
  {
    path: label,
    sizeBytes: bytes,
    sectorBytes: Type.Integer({ minimum: 512, maximum: 65536 }),
    rotational: Type.Boolean(),
    transport: Type.Optional(label),
    model: Type.Optional(label),
    serial: Type.Optional(label),
    wwn: Type.Optional(label),
    byPath: Type.Optional(label),
  },
  { title: 'Disk' },
)
export type Disk = Static<typeof disk>

export const inventory = Type.Object(
  {
    firmware: words(['bios', 'uefi']),
    cpuModel: label,
    cpuCount: Type.Integer({ minimum: 1, maximum: 65536 }),
    memoryBytes: bytes,
    vendor: Type.Optional(label),
    product: Type.Optional(label),
    serial: Type.Optional(label),
    uuid: Type.Optional(label),
    kernel: Type.Optional(label),
    clockAt: Type.Optional(
      Type.String({ format: 'date-time', description: 'What the hardware clock of the machine said, in UTC' }),
    ),
    disks: Type.Array(disk, { maxItems: 256 }),
    interfaces: Type.Array(
      Type.Object({
        name: label,
        mac,
        driver: Type.Optional(label),
        speedMbit: Type.Optional(Type.Integer({ minimum: 0, maximum: 10_000_000 })),
        carrier: Type.Boolean(),
      }),
      { maxItems: 256 },
    ),
  },
  { title: 'Inventory' },
)
export type Inventory = Static<typeof inventory>

/** A disk that a deployment of the host has proven, under the name that its layout gave it. */
export const approvedDisk = Type.Object(
  {
    name: label,
    sizeBytes: bytes,
    model: Type.Optional(label),
    serial: Type.Optional(label),
    wwn: Type.Optional(label),
  },
  { title: 'ApprovedDisk' },
)

export const host = Type.Object(
  {
    name: hostName,
    site: Type.Optional(label),
    rack: Type.Optional(label),
    loader,
    setup: Type.Optional(setupReference),
    interfaces: Type.Array(networkInterface, { maxItems: 32 }),
    powerMethods: Type.Array(powerMethod, { maxItems: 8, description: 'The first is the current one' }),
    bootTarget,
    defaultTarget: bootTarget,
    inventory: Type.Optional(inventory),
    inventoryAt: Type.Optional(dateTime),
    approvedDisks: Type.Optional(
      Type.Array(approvedDisk, {
        // An empty list and none are the same to some readers of XML.
        minItems: 1,
        maxItems: 64,
        description: 'The disks that deployments have proven: no other is overwritten without acceptNewDisk',
      }),
    ),
    deployment: Type.Optional(id),
    deploymentState: Type.Optional(deploymentState),
    protected: Type.Optional(Type.String({ ...label, description: 'Why it is; absent: it is not protected' })),
  },
  { title: 'Host' },
)
export type HostView = Static<typeof host>

export const finding = Type.Object(
  {
    kind: words(hygieneKinds),
    path: Type.String({ maxLength: 1000, description: 'In the captured system; never what the file holds' }),
    text,
    repaired: Type.Boolean(),
  },
  { title: 'Finding' },
)
export type Finding = Static<typeof finding>

/** What was found in a captured system that belongs to one machine, or that is not to be passed on. */
export const hygiene = Type.Object(
  {
    systems: Type.Array(Type.Object({ place: label, filesystem: label, name: Type.Optional(label) }), {
      maxItems: 64,
      description: 'Linux roots that were looked into',
    }),
    findings: Type.Array(finding, { maxItems: 1000 }),
    notSeen: Type.Array(text, { maxItems: 128, description: 'What could not be looked into, and why' }),
  },
  { title: 'Hygiene' },
)
export type Hygiene = Static<typeof hygiene>

export const setupView = Type.Object(
  {
    name: label,
    version: Type.Integer({ minimum: 1 }),
    createdAt: dateTime,
    images: Type.Array(imageReference),
  },
  { title: 'Setup' },
)

/** One host of a task that switches machines to what their boot records say. */
export const rebootOutcome = Type.Object(
  {
    host: hostName,
    target: bootTarget,
    state: words(rebootStates, { title: 'RebootState' }),
    said: Type.Optional(Type.String({ maxLength: 4000, description: 'What happened last, in words' })),
    failure: Type.Optional(failureReport),
  },
  { title: 'RebootOutcome' },
)
export type RebootOutcome = Static<typeof rebootOutcome>

export const taskState = words(['running', 'done', 'failed'])

export const task = Type.Object(
  {
    id,
    kind: words(['publish-image', 'reboot']),
    subject: label,
    state: taskState,
    doneBytes: bytes,
    totalBytes: Type.Optional(bytes),
    failure: Type.Optional(failureReport),
    startedAt: dateTime,
    endedAt: Type.Optional(dateTime),
    reboots: Type.Optional(
      // An empty list and none are the same to some readers of XML.
      Type.Array(rebootOutcome, { minItems: 1, description: 'Of a task that switches machines: each host' }),
    ),
  },
  { title: 'Task' },
)
export type TaskView = Static<typeof task>

/** Seconds spent in one step, in the order in which the steps began. */
export const stepTime = Type.Object({ step: label, seconds: Type.Number({ minimum: 0 }) }, { title: 'StepTime' })

export const transferEngine = words(transferEngines, { title: 'TransferEngine' })

/** How many bytes came from, or went to, one peer. */
export const peerBytes = Type.Object(
  { name: Type.String({ maxLength: 190, description: 'A host, an address, or `origin`' }), bytes },
  { title: 'PeerBytes' },
)

const stored = (description: string) => Type.Integer({ ...bytes, description: `Bytes of image.zst: ${description}` })

/** Where the bytes of one host's image are and came from, as its agent counts them; never less than the report before. */
export const transferCounts = Type.Object(
  {
    engine: transferEngine,
    receivedBytes: stored('all that came, what was fetched twice or found corrupt too'),
    verifiedBytes: stored('checked against their hash'),
    writtenBytes: stored('in frames that are written to the disk'),
    durableBytes: stored('in frames that survive a loss of power'),
    fromOriginBytes: stored('received from the origin (web seed)'),
    fromPeersBytes: stored('received from other peers'),
    toPeersBytes: stored('sent to other peers'),
    ramBytes: stored('held in memory now'),
    spilledBytes: stored('held at the unused end of the disk now'),
    sources: Type.Array(peerBytes, { maxItems: 16, description: 'Who gave most, most first' }),
    uploads: Type.Array(peerBytes, { maxItems: 16, description: 'Who was given most, most first' }),
  },
  { title: 'TransferCounts' },
)
export type TransferCounts = Static<typeof transferCounts>

/** One place of the setup's layout as it is on the host. */
export const proofPlace = Type.Object(
  {
    place: Type.String({ maxLength: 190, description: 'As `system`, `system:2`, `md0`, `vg0/root`' }),
    path: label,
    sizeBytes: bytes,
    kind: words(contentKinds),
    partition: Type.Optional(Type.Integer({ minimum: 1, maximum: 128 })),
    partitionUuid: Type.Optional(label),
    filesystem: Type.Optional(label),
    uuid: Type.Optional(Type.String({ ...label, description: 'Of the file system or swap area' })),
    label: Type.Optional(label),
    mount: Type.Optional(label),
    image: Type.Optional(imageReference),
    digest: Type.Optional(sha256),
  },
  { title: 'ProofPlace' },
)
export type ProofPlace = Static<typeof proofPlace>

/** One thing that was done, or not, after the images. */
export const proofAction = Type.Object(
  { name: label, outcome: words(['done', 'skipped', 'failed']), text, seconds: Type.Number({ minimum: 0 }) },
  { title: 'ProofAction' },
)
export type ProofAction = Static<typeof proofAction>

export const proof = Type.Object(
  {
    imageDigest: sha256,
    diskPath: label,
    diskSerial: Type.Optional(label),
    diskWwn: Type.Optional(label),
    diskSizeBytes: bytes,
    bytesFetched: bytes,
    bytesWritten: bytes,
    bytesZeroed: bytes,
    bytesKept: Type.Optional(Type.Integer({ ...bytes, description: 'Bytes of disk that were there already' })),
    bytesReadBack: bytes,
    bootEntry: Type.Optional(label),
    steps: Type.Array(stepTime, { maxItems: 64 }),
    transfer: Type.Optional(transferCounts),
    places: Type.Array(proofPlace, { maxItems: 2048 }),
    actions: Type.Array(proofAction, { maxItems: 256 }),
  },
  { title: 'Proof' },
)
export type Proof = Static<typeof proof>

/** One order to a controller, or one way that did not lead on. */
export const deploymentTry = Type.Object(
  {
    attempt: Type.Integer({ minimum: 0 }),
    step: words(triedSteps),
    how: text,
    at: dateTime,
    outcome: Type.Optional(Type.String({ maxLength: 4000, description: 'Absent: under way, or cut short' })),
    code: Type.Optional(failureCode),
  },
  { title: 'DeploymentTry' },
)

export const deployment = Type.Object(
  {
    id,
    rollout: id,
    host: hostName,
    kind: words(deploymentKinds),
    setup: setupReference,
    wave: Type.Integer({ minimum: 0, description: 'In which wave of its rollout it begins; 0: it is a canary' }),
    retryOf: Type.Optional(Type.Integer({ ...id, description: 'The deployment that this one does again' })),
    state: deploymentState,
    attempt: Type.Integer({ minimum: 0, description: 'How often the machine was told to boot the scout' }),
    step: Type.Optional(deploymentStep),
    waitingFor: Type.Optional(Type.String({ maxLength: 4000, description: 'What must happen next, in words' })),
    doneBytes: bytes,
    totalBytes: bytes,
    bytesPerSecond: Type.Number({ minimum: 0 }),
    transfer: Type.Optional(transferCounts),
    startedAt: dateTime,
    stateSince: dateTime,
    deadlineAt: Type.Optional(dateTime),
    endedAt: Type.Optional(dateTime),
    failure: Type.Optional(failureReport),
    failedStep: Type.Optional(label),
    log: Type.Optional(Type.String({ maxLength: 65536, description: "The tail of the agent's log" })),
    proof: Type.Optional(proof),
    states: Type.Array(stepTime, { maxItems: 64 }),
    tries: Type.Optional(
      Type.Array(deploymentTry, {
        minItems: 1,
        maxItems: triesMax,
        description:
          'What was tried, oldest first: orders to controllers, and what became of attempts that led to nothing',
      }),
    ),
  },
  { title: 'Deployment' },
)
export type DeploymentView = Static<typeof deployment>

/** Whether what a disk holds is compared first. */
export const redeployMode = words(redeployModes, { title: 'RedeployMode' })

/** How a rollout's hosts get the image: the setup's word, unless the order of the rollout said otherwise. */
export const transferPolicy = {
  engine: transferEngine,
  redeploy: redeployMode,
  egressBytesPerSecond: Type.Optional(rateLimit('Cap of what each host sends to peers')),
  ingressBytesPerSecond: Type.Optional(rateLimit('Cap of what each host receives of the image')),
  lingerSeconds: Type.Integer({ minimum: 0, description: 'The longest that a host stays as a source when it is done' }),
}
export const copiesOutOfOrigin = Type.Optional(
  Type.Number({ minimum: 0, description: 'Bytes that left the origin for all hosts, in sizes of image.zst' }),
)

/** The policy of a rollout, in numbers of hosts. */
const rolloutPolicyView = Type.Object(
  {
    canary: Type.Optional(hosts),
    wave: Type.Optional(hosts),
    concurrency: Type.Optional(hosts),
    stopAtFailed: Type.Optional(hosts),
    atFailures: words(failureCourses),
    quorum: Type.Optional(hosts),
    spares: words(spareUses),
    startAt: Type.Optional(dateTime),
    order: words(hostOrders),
  },
  { title: 'RolloutPolicy' },
)

/** A host of the nodeset that a rollout leaves out. */
export const excludedHost = Type.Object(
  { host: hostName, reason: words(exclusionReasons, { title: 'ExclusionReason' }), text },
  { title: 'ExcludedHost' },
)

const rolloutCounts = Type.Object(
  {
    total: Type.Integer({ ...hosts, description: 'Those that were cancelled by name are not in it' }),
    waiting: hosts,
    underWay: hosts,
    done: hosts,
    failed: hosts,
    cancelled: hosts,
  },
  { title: 'RolloutCounts' },
)

export const rollout = Type.Object(
  {
    id,
    setup: setupReference,
    captures: Type.Optional(imageReference),
    ...transferPolicy,
    copiesOutOfOrigin,
    startedAt: dateTime,
    endedAt: Type.Optional(dateTime),
    state: words(rolloutStates, { title: 'RolloutState' }),
    reason: Type.Optional(Type.String({ maxLength: 4000, description: 'Why it is in this state' })),
    waitsFor: Type.Optional(Type.String({ maxLength: 4000, description: 'What must happen before more hosts begin' })),
    wave: Type.Optional(Type.Integer({ minimum: 0, description: 'The first that has not ended; 0: the canary' })),
    waves: Type.Integer({ minimum: 0, description: 'The number of the last wave' }),
    counts: rolloutCounts,
    policy: Type.Optional(rolloutPolicyView),
    excluded: Type.Array(excludedHost),
    deployments: Type.Array(deployment, { description: 'The newest of each host in this rollout' }),
  },
  { title: 'Rollout' },
)
export type RolloutView = Static<typeof rollout>

export const event = Type.Object(
  {
    id,
    at: dateTime,
    source: label,
    kind: label,
    host: Type.Optional(hostName),
    deployment: Type.Optional(id),
    text,
  },
  { title: 'Event' },
)
export type EventView = Static<typeof event>

export const powerOutcome = Type.Object(
  {
    host: hostName,
    driver: Type.Optional(label),
    state: Type.Optional(powerState),
    confirmed: Type.Boolean({ description: 'The controller was asked again and said that it is so' }),
    failure: Type.Optional(failureReport),
  },
  { title: 'PowerOutcome' },
)
export type PowerOutcome = Static<typeof powerOutcome>

export const diskHint = Type.Object(
  {
    property: words(diskProperties),
    operator: words(diskHintOperators),
    value: label,
  },
  { title: 'DiskHint' },
)

/** How the agent fetches the image and for how long it stays as a source. */
export const transferOrder = Type.Object(
  {
    engine: transferEngine,
    infoHash: Type.Optional(
      Type.String({
        pattern: '^[0-9a-f]{40}$',
        description: 'Of the torrent; always there unless the engine is `http`',
      }),
    ),
    torrentUrl: label,
    metalinkUrl: label,
    announceUrl: label,
    framesUrl: Type.Optional(
      Type.String({
        maxLength: 190,
        description:
          'Where `<frame>/sums` and `<frame>/blocks` are, for a redeploy by difference; absent where whole frames are to be fetched',
      }),
    ),
    egressBytesPerSecond: Type.Optional(rateLimit('All that the host sends to peers')),
    ingressBytesPerSecond: Type.Optional(rateLimit('All that the host receives of the image')),
    siteEgressBytesPerSecond: Type.Optional(rateLimit('What the host sends to peers of other sites')),
    siteIngressBytesPerSecond: Type.Optional(rateLimit('What the host receives from the origin and other sites')),
    lingerSeconds: Type.Integer({
      minimum: 0,
      maximum: lingerSecondsMax,
      description: 'The longest that the host stays as a source when its disk is proven',
    }),
  },
  { title: 'TransferOrder' },
)
export type TransferOrder = Static<typeof transferOrder>
