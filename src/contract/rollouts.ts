// What can be done to a rollout that has been started.
import { Type } from 'typebox'
import { operation } from './operation.ts'
import { protectedMeant } from './rollout-types.ts'
import { deployment, id, nodeset, rollout, words } from './types.ts'

/** What the plan of a retry may end in. */
const retryFailures = [
  'unknown-image',
  'unknown-profile',
  'wrong-state',
  'no-power-method',
  'setup-invalid',
  'disk-none',
  'disk-ambiguous',
  'disk-changed',
  'image-too-large',
  'host-protected',
] as const

/** Of a rollout: those that failed, or all that are not done. */
export const retryChoices = ['failed', 'not-done'] as const

export const rolloutOperations = {
  pauseRollout: operation({
    summary: 'Lets no more hosts of a rollout begin until it is resumed; those under way go on',
    access: 'operator',
    rest: { method: 'POST', path: '/rollouts/{rollout}/pause' },
    input: Type.Object({
      rollout: id,
      reason: Type.Optional(Type.String({ minLength: 1, maxLength: 1000, description: 'Shown to whoever looks' })),
    }),
    output: Type.Object({ rollout }),
    failures: ['unknown-rollout', 'wrong-state'],
  }),
  resumeRollout: operation({
    summary: 'Lets a paused rollout go on; what has failed so far is accepted, and does not pause or stop it again',
    access: 'operator',
    rest: { method: 'POST', path: '/rollouts/{rollout}/resume' },
    input: Type.Object({ rollout: id }),
    output: Type.Object({ rollout }),
    failures: ['unknown-rollout', 'wrong-state'],
  }),
  retryRollout: operation({
    summary:
      'Deploys hosts of a rollout again, each in a new deployment of the same rollout: those that failed, all that are not done, or those of a nodeset',
    access: 'operator',
    rest: { method: 'POST', path: '/rollouts/{rollout}/retry' },
    input: Type.Object({
      rollout: id,
      which: Type.Optional(words(retryChoices, { description: '`failed` when not said and no nodeset is given' })),
      nodeset: Type.Optional(nodeset),
      includeProtected: protectedMeant,
    }),
    output: Type.Object({ rollout }),
    once: 'recorded',
    failures: ['unknown-rollout', 'unknown-host', ...retryFailures],
  }),
  retryDeployment: operation({
    summary: 'Deploys the host of a deployment that failed or was cancelled again, in the same rollout',
    access: 'operator',
    rest: { method: 'POST', path: '/deployments/{deployment}/retry' },
    input: Type.Object({ deployment: id, includeProtected: protectedMeant }),
    output: Type.Object({ deployment }),
    once: 'recorded',
    failures: ['unknown-deployment', ...retryFailures],
  }),
}
