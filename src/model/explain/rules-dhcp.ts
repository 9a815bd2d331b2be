// Rules for DHCP: who answers, what is offered, what the machine takes of it.
import { type Found, foundIn, type Rule } from './rule.ts'
import type { StoryEvent } from './story.ts'
import { after, clientOf, hasReached, type Trail } from './trail.ts'

const isFirmware = (event: StoryEvent): boolean => ['pxe', 'ipxe', 'http-boot'].includes(clientOf(event) ?? '')

/** For how long a client said that it had been asking already (`secs` of RFC 2131). */
export function askedForSeconds({ text }: StoryEvent): number {
  return Number(/after (\d+) s of asking/.exec(text)?.[1] ?? 0)
}

/** A switch port that learns lets nothing through for 15 or 30 s; a lost packet is repeated after 4. */
const stpSecondsMin = 8

function lateFirstRequest(trail: Trail): Found | undefined {
  const first = trail.events.find(isFirmware)
  if (first === undefined || askedForSeconds(first) < stpSecondsMin) return undefined
  return {
    likelihood: hasReached(trail, 'script') ? 'possible' : 'likely',
    evidence: [first],
    detail: `its first request that came through was ${askedForSeconds(first)} s late`,
  }
}

export const dhcpRules: readonly Rule[] = [
  {
    cause: 'dhcp-server-failed',
    title: 'The service heard the DHCP request of the machine, and could not answer it.',
    check: [
      '`EPERM`: a firewall on the server itself drops its answers (UDP 67).',
      "Else the service's log; the database.",
    ],
    find: (trail) =>
      hasReached(trail, 'script') ? undefined : foundIn(trail.events, ({ kind }) => kind === 'dhcp-failed', 'certain'),
  },
  {
    cause: 'no-address-given',
    title: "The host's interface has no IP address in HaDeS, so its DHCP requests are not answered.",
    check: ['Give the interface an address: hades host change.'],
    find: (trail) => foundIn(trail.events, ({ kind }) => kind === 'dhcp-unknown', 'certain'),
  },
  {
    cause: 'duplicate-address',
    title: 'Another machine uses the address of this host: the machine found it taken and gave it back.',
    check: [
      'Who has the address: arping from this network shows a second MAC address.',
      'Another DHCP server or a machine with a fixed address; give the host another one.',
    ],
    find: (trail) => foundIn(trail.events, ({ kind }) => kind === 'dhcp-decline', 'certain'),
  },
  {
    cause: 'second-dhcp-server',
    title: 'Another DHCP server answers on this network, and the machine took its offer.',
    check: [
      'hades preflight lists the DHCP servers of the network.',
      'Switch the other one off, or keep its port away from these machines (DHCP snooping).',
    ],
    find: (trail) => {
      const found = foundIn(trail.events, ({ kind }) => kind === 'dhcp-other-server', 'certain')
      // When the machine came on all the same, it is worth a remark and no more.
      return found && hasReached(trail, 'script') ? { ...found, likelihood: 'possible' } : found
    },
  },
  {
    cause: 'wrong-architecture',
    title: 'There is no loader for the architecture that the firmware says it has.',
    check: [
      'The firmware mode: x86-64 in BIOS or UEFI mode boots; 32-bit UEFI and ARM have no loader here.',
      'docs/netboot.md says which files serve which architecture.',
    ],
    find: (trail) =>
      hasReached(trail, 'script')
        ? undefined
        : foundIn(trail.events, ({ kind }) => kind === 'dhcp-no-loader', 'certain'),
  },
  {
    cause: 'stp-delay',
    title: 'The switch port passes nothing for its first seconds: spanning tree without portfast.',
    check: ['Set portfast (edge port) on the switch port of the machine.', 'Or raise the boot deadline of the setup.'],
    find: lateFirstRequest,
  },
  {
    cause: 'offer-not-taken',
    title: 'The machine asks again and again, and takes none of the offers: they do not reach it, or it likes another.',
    check: [
      'Broadcasts from this server to the machine: VLAN, DHCP snooping (this port must be trusted), a relay.',
      'Another DHCP server: hades preflight.',
    ],
    find: (trail) => {
      if (!trail.isStuck || hasReached(trail, 'loader')) return undefined
      const offers = trail.events.filter((e) => e.kind === 'dhcp-discover' && isFirmware(e))
      const isTaken = trail.events.some(({ kind }) => kind === 'dhcp-request' || kind === 'dhcp-other-server')
      return offers.length < 2 || isTaken ? undefined : { likelihood: 'likely', evidence: offers.slice(-6) }
    },
  },
  {
    cause: 'address-refused',
    title: 'The machine asked for an address that is not its own, and was refused.',
    check: ['An old lease of another server, or an address that was changed; the next boot gets the right one.'],
    find: (trail) => {
      const found = foundIn(
        after(trail, hasReached(trail, 'proven') ? 'proven' : 'power'),
        ({ source, text }) => source === 'dhcp' && text.includes('and was refused'),
        'possible',
      )
      return trail.isStuck ? found : undefined
    },
  },
]
