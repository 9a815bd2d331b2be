// One host's part of a rollout: its states, what each waits for and for how long, and which change may follow which.

/**
 * In order: `waiting` (its rollout has not let it begin: its machine and its boot record are untouched), `queued` (nothing
 * asked yet), `powering` (the controller is being asked), `booting` (waiting for the agent to
 * register), `deploying` (the agent is at work and reports), `rebooting` (the agent has handed over; the new system has
 * not been observed yet), and the three ends.
 */
export const deploymentStates = [
  'waiting',
  'queued',
  'powering',
  'booting',
  'deploying',
  'rebooting',
  'done',
  'failed',
  'cancelled',
] as const
export type DeploymentState = (typeof deploymentStates)[number]

/** Under way: the engine moves these on. */
export const activeStates = ['queued', 'powering', 'booting', 'deploying', 'rebooting'] as const
export type ActiveState = (typeof activeStates)[number]

export function isActive(state: DeploymentState): state is ActiveState {
  return (activeStates as readonly DeploymentState[]).includes(state)
}

/** Not ended. */
export const openStates = ['waiting', ...activeStates] as const

export function isOpen(state: DeploymentState): boolean {
  return (openStates as readonly DeploymentState[]).includes(state)
}

/**
 * What the agent does while a deployment is `deploying`, in this order; a setup that does not ask for a step has none. In
 * `share` the disk is whole and the host stays as a source while others still gain from it. `hygiene` to `publish` are of
 * captures only.
 */
export const deploymentSteps = [
  'inventory',
  'disk',
  'erase',
  'layout',
  'compare',
  'transfer',
  'verify',
  'boot-block',
  'post-install',
  'share',
  'hygiene',
  'repair',
  'capture',
  'publish',
  'finish',
] as const
export type DeploymentStep = (typeof deploymentSteps)[number]

/** What the agent does when the disk is proven. `kexec` starts the new kernel without firmware, `stay` nothing. */
export const finalActions = ['reboot', 'kexec', 'poweroff', 'stay'] as const
export type FinalAction = (typeof finalActions)[number]

/** Which operation is allowed in which state; handlers, CLI and dashboard all read this table. */
export const allowedIn = {
  cancel: openStates,
  retry: ['failed', 'cancelled'],
} satisfies Record<string, readonly DeploymentState[]>
