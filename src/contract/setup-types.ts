// Setups, the scripts that they name, what differs between two of them, and the plan of a rollout.
import { type Static, Type } from 'typebox'
import { identityStandings } from '../model/approved-disk.ts'
import { changeKinds } from '../model/setup-diff.ts'
import {
  dateTime,
  disk,
  failureReport,
  hostName,
  imageReference,
  label,
  setupReference,
  sha256,
  words,
} from './types.ts'

export const setupXml = Type.String({ minLength: 1, maxLength: 262_144, description: 'The setup document' })

export const scriptName = Type.String({ maxLength: 100, pattern: '^[a-z0-9][a-z0-9._-]*$' })
export const scriptReference = Type.String({
  title: 'ScriptReference',
  maxLength: 110,
  pattern: '^[a-z0-9][a-z0-9._-]*(:[1-9][0-9]{0,8})?$',
  description: 'A script of the library, as `name` (its newest version) or `name:version`',
})
export const scriptText = Type.String({ minLength: 1, maxLength: 65_536 })

export const script = Type.Object(
  {
    name: label,
    version: Type.Integer({ minimum: 1 }),
    createdAt: dateTime,
    sha256,
    characters: Type.Integer({ minimum: 0 }),
  },
  { title: 'Script' },
)
export type ScriptView = Static<typeof script>

const shown = Type.String({ maxLength: 4000 })

export const setupChange = Type.Object(
  {
    kind: words(changeKinds),
    subject: Type.String({ maxLength: 190, description: 'A place, such as `system:2`, or a part of the setup' }),
    what: Type.String({ maxLength: 190, description: 'What of it, such as `size`' }),
    from: Type.Optional(shown),
    to: Type.Optional(shown),
  },
  { title: 'SetupChange' },
)
export type SetupChangeView = Static<typeof setupChange>

export const planDisk = Type.Object(
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

/** What a rollout would do to one host. A host with refusals keeps the whole rollout from starting. */
export const planHost = Type.Object(
  {
    host: hostName,
    inventoryAt: Type.Optional(
      Type.String({ format: 'date-time', description: 'When its disks were seen; absent: never, or not asked for' }),
    ),
    disks: Type.Array(planDisk, { maxItems: 16 }),
    refusals: Type.Array(failureReport, { maxItems: 64 }),
    warnings: Type.Array(shown, { maxItems: 64 }),
  },
  { title: 'PlanHost' },
)
export type PlanHostView = Static<typeof planHost>

export const rolloutPlan = Type.Object(
  {
    setup: setupReference,
    images: Type.Array(imageReference, { maxItems: 64 }),
    canStart: Type.Boolean({ description: 'No host has a refusal' }),
    warnings: Type.Array(shown, { maxItems: 64 }),
    hosts: Type.Array(planHost),
  },
  { title: 'RolloutPlan' },
)
export type RolloutPlanView = Static<typeof rolloutPlan>
