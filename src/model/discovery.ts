// Machines that ask for something and whose MAC address belongs to no host.

/** What such a machine is told when its loader asks what to boot: nothing, or to go on with its disk. */
export const discoveryPolicies = ['ignore', 'local'] as const
export type DiscoveryPolicy = (typeof discoveryPolicies)[number]

/** `waiting`: somebody is to decide. `ignored`: somebody has. */
export const discoveredStates = ['waiting', 'ignored'] as const
export type DiscoveredState = (typeof discoveredStates)[number]
