// Hosts that a rollout leaves out though its nodeset names them, and why: what would refuse the whole rollout, or only be
// remarked upon, leaves out one host when whoever orders it says so.

/**
 * `in-rollout`: another rollout has it. `protected`: it is not to be touched unless it is named as meant.
 * `no-power-method`: nothing can switch it. `unknown-disk`: its disks were never seen. `failed-twice`: its last two
 * deployments failed. `refused`: the plan has another refusal.
 */
export const exclusionReasons = [
  'in-rollout',
  'protected',
  'no-power-method',
  'unknown-disk',
  'failed-twice',
  'refused',
] as const
export type ExclusionReason = (typeof exclusionReasons)[number]

/** What may be chosen to be left out; of those in another rollout `ifBusy` decides. */
export const exclusionChoices = ['protected', 'no-power-method', 'unknown-disk', 'failed-twice', 'refused'] as const
export type ExclusionChoice = (typeof exclusionChoices)[number]

/** A host that is left out. */
export type Excluded = { readonly host: string; readonly reason: ExclusionReason; readonly text: string }

/** A host that has failed so often in a row wants a person. */
export const failuresInRowMax = 2
