// What a rollout is ordered with, and its plan: what would be done to which host, who is left out, how long it may take.
import { type Static, Type } from 'typebox'
import { identityStandings } from '../model/approved-disk.ts'
import { exclusionChoices } from '../model/exclusion.ts'
import { busyCourses, failureCourses, hostOrders, hostSharePattern, spareUses } from '../model/rollout-policy.ts'
import {
  bytes,
  dateTime,
  disk,
  excludedHost,
  failureReport,
  hostName,
  id,
  imageReference,
  label,
  nodeset,
  setupReference,
  words,
} from './types.ts'

/** Hosts of the rollout, as a number or in percent; said of what they are for. */
function hostShare(description: string) {
  return Type.String({
    maxLength: 6,
    pattern: hostSharePattern,
    description: `${description}: a number, or as \`10%\``,
  })
}

const policyOrder = Type.Object(
  {
    canary: Type.Optional(hostShare('Hosts that must be done before any other begins')),
    wave: Type.Optional(hostShare('Hosts of a wave: the next begins when this one has ended')),
    concurrency: Type.Optional(hostShare('Hosts under way at a time')),
    stopAtFailed: Type.Optional(hostShare('So many failed hosts are too many: nothing more begins')),
    atFailures: Type.Optional(
      words(failureCourses, {
        description:
          'Those that have not begun, when too many or a canary failed: `stop` (when not said) cancels them, `pause` keeps them until somebody resumes the rollout',
      }),
    ),
    quorum: Type.Optional(hostShare('So many hosts done are enough: those that have not begun then are not needed')),
    spares: Type.Optional(
      words(spareUses, {
        description:
          'Hosts beyond the quorum: `hold` (when not said) keeps them to stand in for those that fail, `begin` begins them with the others',
      }),
    ),
    startAt: Type.Optional(Type.String({ format: 'date-time', description: 'Nothing begins before' })),
    order: Type.Optional(
      words(hostOrders, {
        description:
          '`given` (when not said): as in the nodeset; `spread`: of each site and rack in turn, the canaries too',
      }),
    ),
  },
  { title: 'RolloutPolicyOrder' },
)

export const protectedMeant = Type.Optional(
  Type.String({
    ...nodeset,
    title: 'ProtectedNodeset',
    description: 'Protected hosts that are meant, by their names; `*` is refused',
  }),
)

/** Which hosts become what, by which policy, and what of the plan's checks the caller has decided already. */
export const rolloutFields = {
  nodeset,
  setup: Type.Optional(setupReference),
  /** No more hosts than this, whatever the nodeset turns out to be. */
  max: Type.Optional(Type.Integer({ minimum: 1, maximum: 100_000 })),
  confirm: Type.Optional(
    Type.String({
      maxLength: 4000,
      description:
        'That so many hosts are meant: their number, or the nodeset of the plan. Needed for more hosts than the service is set to',
    }),
  ),
  ifBusy: Type.Optional(
    words(busyCourses, {
      description:
        'Hosts that are in another rollout: `refuse` (when not said) starts nothing, `queue` has them wait for its end, `exclude` leaves them out',
    }),
  ),
  exclude: Type.Optional(
    Type.Array(words(exclusionChoices), {
      maxItems: 16,
      description: 'Hosts to leave out instead of starting nothing, or of starting them too',
    }),
  ),
  includeProtected: protectedMeant,
  policy: Type.Optional(policyOrder),
  acceptNewDisk: Type.Optional(
    Type.Boolean({ description: 'Disks may be overwritten that no deployment of their host has proven before' }),
  ),
  ignoreInventory: Type.Optional(
    Type.Boolean({ description: 'What is known of disks and firmware is out of date: only the agents look' }),
  ),
}

const shown = Type.String({ maxLength: 4000 })
const hostList = Type.String({ maxLength: 1_000_000, description: 'A nodeset' })

const planDisk = Type.Object(
  {
    name: Type.String({ maxLength: 190, description: 'As the layout names it' }),
    disk,
    standing: words(identityStandings, {
      description:
        '`first`: no deployment has proven a disk of the host yet. `approved`: one has proven this disk. `new`: another disk was proven, and this one never',
    }),
  },
  { title: 'PlanDisk' },
)

/** What a deployment has last proven to be on the disks of a host: that is what a rollout overwrites. */
const lastProof = Type.Object(
  { deployment: id, setup: setupReference, images: Type.Array(imageReference, { maxItems: 64 }), provenAt: dateTime },
  { title: 'LastProof' },
)

/** What a rollout would do to one host. A host with refusals keeps the whole rollout from starting. */
const planHost = Type.Object(
  {
    host: hostName,
    inventoryAt: Type.Optional(
      Type.String({ format: 'date-time', description: 'When its disks were seen; absent: never, or not asked for' }),
    ),
    disks: Type.Array(planDisk, { maxItems: 16 }),
    holds: Type.Optional(lastProof),
    wave: Type.Integer({ minimum: 0, description: 'In which wave it begins; 0: it is a canary' }),
    behind: Type.Optional(Type.Integer({ ...id, description: 'The rollout whose end it would wait for' })),
    protected: Type.Optional(Type.String({ ...label, description: 'Why it is, though it is meant' })),
    refusals: Type.Array(failureReport, { maxItems: 64 }),
    warnings: Type.Array(shown, { maxItems: 64 }),
  },
  { title: 'PlanHost' },
)
export type PlanHostView = Static<typeof planHost>

const planImage = Type.Object(
  { reference: imageReference, sizeBytes: bytes, storedBytes: bytes },
  { title: 'PlanImage' },
)

const planEstimate = Type.Object(
  {
    hostSeconds: Type.Optional(
      Type.Number({ minimum: 0, description: 'Of one host, from begin to end; absent: unknown' }),
    ),
    seconds: Type.Optional(Type.Number({ minimum: 0, description: 'Of the rollout from its start; absent: unknown' })),
    basis: Type.String({ maxLength: 4000, description: 'What this is guessed from, or why it is unknown' }),
  },
  { title: 'PlanEstimate' },
)

const planWave = Type.Object(
  { wave: Type.Integer({ minimum: 0, description: '0: the canary' }), nodeset: hostList, hosts: Type.Integer() },
  { title: 'PlanWave' },
)

export const rolloutPlan = Type.Object(
  {
    setup: setupReference,
    images: Type.Array(imageReference, { maxItems: 64 }),
    sizes: Type.Array(planImage, { maxItems: 64 }),
    canStart: Type.Boolean({ description: 'No host has a refusal' }),
    nodeset: Type.Optional(hostList),
    needsConfirm: Type.Boolean({ description: 'It starts only when `confirm` says how many hosts are meant' }),
    estimate: planEstimate,
    waves: Type.Array(planWave),
    excluded: Type.Array(excludedHost),
    warnings: Type.Array(shown, { maxItems: 64 }),
    hosts: Type.Array(planHost, { description: 'Those that go, in the order in which they begin' }),
  },
  { title: 'RolloutPlan' },
)
export type RolloutPlanView = Static<typeof rolloutPlan>
