// What is known of one host's way through its last deployment, as plain data: the rules of `explain` are functions of it.
// `operations/explain.ts` reads it from the database; the recorded cases in testdata/ are the same as JSON.
import type { DeploymentState } from '../deployment.ts'

/** One event of the timeline; `at` is in milliseconds since 1970. */
export type StoryEvent = {
  readonly id: number
  readonly at: number
  readonly source: string
  readonly kind: string
  readonly text: string
}

export type StoryDeployment = {
  readonly id: number
  readonly kind: string
  readonly state: DeploymentState
  readonly attempt: number
  readonly startedAt: number
  readonly stateSince: number
  readonly endedAt?: number
  readonly waitingFor?: string
  readonly failure?: { readonly code: string; readonly message: readonly string[]; readonly at?: string }
  readonly failedStep?: string
  /** The tail of the agent's log. */
  readonly log?: string
  /** How the new system is looked for, in a word and a port: `dhcp`, `tcp 22`, `none`. */
  readonly probe: string
}

export type StoryInventory = {
  readonly firmware: string
  readonly memoryBytes: number
  readonly interfaces: readonly {
    readonly mac: string
    readonly carrier: boolean
    readonly speedMbit?: number
  }[]
}

export type Story = {
  /** When the story was read. */
  readonly now: number
  readonly service: {
    /** Whether this service answers DHCP; where it does not, the site's own server sends machines here. */
    readonly dhcp: boolean
  }
  readonly host: {
    readonly name: string
    readonly loader: string
    readonly interfaces: readonly { readonly mac: string; readonly ip?: string }[]
    readonly powerDriver?: string
    /** The last boot request of the machine before this story, if there ever was one. */
    readonly seenBefore?: number
  }
  /** The one that is explained; a host that was never deployed has none, and the story is its last hour. */
  readonly deployment?: StoryDeployment
  /** What an agent found in the machine, in this deployment or an earlier one. */
  readonly inventory?: StoryInventory
  /** Of the host, oldest first. */
  readonly events: readonly StoryEvent[]
  /** In the same time, of no host: unknown MAC addresses, requests from unknown addresses, the service's own. */
  readonly strangers: readonly StoryEvent[]
  /** Lines of the machine's console, where somebody has recorded it. */
  readonly console: readonly string[]
}
