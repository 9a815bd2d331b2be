// Rules for what happens before the machine says anything: its controller, its boot order, and who answers DHCP.
import { type Found, failedEvent, failureWords, foundIn, foundInLines, linesOf, type Rule, seconds } from './rule.ts'
import type { StoryEvent } from './story.ts'
import { clientOf, hasReached, isOfMachine, type Trail } from './trail.ts'

/** What the Power Port or the engine said of a controller in this attempt, and how the deployment ended. */
function bmcSaid(trail: Trail, said: RegExp): Found | undefined {
  const told = foundIn(trail.events, ({ kind, text }) => kind === 'power-failed' && said.test(text), 'certain')
  if (told) {
    // What was tried again and then came right is no cause.
    const later = trail.events.slice(trail.events.indexOf(told.evidence.at(-1) as StoryEvent))
    return later.some(({ kind }) => kind === 'power' || kind === 'dhcp-discover') ? undefined : told
  }
  const { failure } = trail.story.deployment ?? {}
  if (failure?.code.startsWith('bmc-') !== true || !said.test(failureWords(trail))) return undefined
  return { likelihood: 'certain', evidence: failedEvent(trail), detail: failureWords(trail) }
}

/** The machine is on, as its controller says, and nothing came of it. */
function isSilentAfterPower(trail: Trail): boolean {
  return trail.isStuck && trail.reached === 'power' && !trail.events.some(isOfMachine)
}

const power = (trail: Trail): StoryEvent[] => trail.events.filter(({ source }) => source === 'power').slice(-1)

const unknownMac = ({ kind }: StoryEvent): boolean => kind === 'dhcp-unknown'

function macAsWeKnowIt(trail: Trail): string {
  return trail.story.host.interfaces.map(({ mac }) => mac).join(', ') || 'none'
}

export const powerRules: readonly Rule[] = [
  {
    cause: 'bmc-password',
    title: 'The management controller refuses the user name or the password.',
    check: [
      'Correct user name and password of the power method: hades host change, then hades power test.',
      'It was tried once, so that the account is not locked; look at the controller whether it is locked already.',
    ],
    find: (trail) => bmcSaid(trail, /refused the password|does not know the user name|in the middle of the login/),
  },
  {
    cause: 'bmc-lies',
    title: 'The management controller says yes to the command, and the machine does not follow.',
    check: [
      'Look at the machine itself: is it switched off at its power supply, or in the middle of a firmware update?',
      'Reset the controller (ipmitool mc reset cold), or give the host another power method.',
    ],
    find: (trail) => bmcSaid(trail, /said yes to/),
  },
  {
    cause: 'bmc-refused',
    title: 'The management controller refuses what it is asked for.',
    check: ["The power method's options (cipher, privilege) and the user's rights; hades power test names the part."],
    find: (trail) =>
      bmcSaid(trail, /does not give the user|does not offer the cipher|IPMI 2\.0|refused|no clear answer/),
  },
  {
    cause: 'bmc-unreachable',
    title: 'The management controller does not answer.',
    check: [
      "The power method's address, and whether this machine reaches it: hades power test, ping.",
      "The controller's cable and VLAN, and whether IPMI over LAN is enabled in it.",
    ],
    find: (trail) => bmcSaid(trail, /not answer|then nothing for|does not resolve|is busy|no session free/),
  },
  {
    cause: 'not-switched',
    title: 'Nobody has switched the machine on: its power method cannot, and waits for a person.',
    check: ['Power-cycle the machine by hand, with the network first in its boot order.'],
    find: (trail) => {
      const isManual = ({ kind, text }: StoryEvent): boolean => kind === 'power' && text.includes('cannot be confirmed')
      return isSilentAfterPower(trail) ? foundIn(trail.events, isManual, 'likely') : undefined
    },
  },
  {
    cause: 'disk-before-network',
    title: 'The machine boots its disk before the network: the system installed on it asked for an address.',
    check: [
      'Put the network first in the boot order of its firmware; some ignore the boot device that a controller sets.',
      'On UEFI: the boot entry of the installed system; efibootmgr shows the order.',
    ],
    find: (trail) => {
      const isFirmware = (event: StoryEvent) => ['pxe', 'ipxe', 'http-boot'].includes(clientOf(event) ?? '')
      if (hasReached(trail, 'script') || trail.events.some(isFirmware)) return undefined
      const isSystem = (event: StoryEvent) => clientOf(event) === 'system'
      return trail.story.deployment === undefined ? undefined : foundIn(trail.events, isSystem, 'certain')
    },
  },
  {
    cause: 'mac-unknown',
    title: 'A machine whose MAC address belongs to no host asked for an address: probably this one.',
    check: ["Compare the MAC address with the host's interfaces; add it with hades host change."],
    find: (trail) => {
      if (!trail.isStuck || trail.events.some(isOfMachine)) return undefined
      const found = foundIn(trail.strangers, unknownMac, 'likely')
      return found && { ...found, detail: `the host has ${macAsWeKnowIt(trail)}` }
    },
  },
  {
    cause: 'boot-device-not-set',
    title: 'The controller did not take the network as boot device, and the machine booted something else.',
    check: ['Put the network first in the boot order of the firmware.', 'Try the option `efi` of the power method.'],
    find: (trail) =>
      isSilentAfterPower(trail) ? foundIn(trail.events, ({ kind }) => kind === 'boot-device', 'likely') : undefined,
  },
  {
    cause: 'dhcp-off',
    title: 'This service answers no DHCP, and whoever does has not sent the machine here.',
    check: [
      "The site's DHCP server: next-server and file name (docs/netboot.md), and a reservation for this MAC address.",
      'Or start the service with --dhcp full, when nobody else answers on this network.',
    ],
    find: (trail) =>
      isSilentAfterPower(trail) && !trail.story.service.dhcp
        ? { likelihood: 'likely', evidence: power(trail), detail: `nothing for ${seconds(trail.quietMs)}` }
        : undefined,
  },
  {
    cause: 'no-link',
    title: 'No link: the cable, the switch port or its VLAN.',
    check: ['The cable and the port; lights at both ends.', 'Which VLAN the port is in.'],
    find: (trail) =>
      hasReached(trail, 'agent') ? undefined : foundInLines(linesOf(trail), /no Ethernet link has carrier/, 'certain'),
  },
  {
    cause: 'network-boot-off',
    title: 'The machine is on but asked for nothing, and never did before: it does not boot from the network.',
    check: [
      'Network boot (PXE) of this very card in the firmware settings, and the boot order.',
      'Whether the MAC address is the one of the card with the cable in it.',
      'Whether the power method is that of this machine and not of its neighbour.',
    ],
    find: (trail) => {
      const { seenBefore, powerDriver } = trail.story.host
      if (!isSilentAfterPower(trail) || !trail.story.service.dhcp || seenBefore !== undefined) return undefined
      return powerDriver === 'manual' ? undefined : { likelihood: 'possible', evidence: power(trail) }
    },
  },
  {
    cause: 'silent-after-power',
    title: 'The machine is on but asked for nothing, although it has booted from the network before.',
    check: [
      'Its cable, switch port and VLAN; a DHCP relay on the way.',
      'Its console: does it stand in its self-test, in its firmware menu, at a failed memory module?',
      'Its boot order: has a new system put itself before the network?',
    ],
    find: (trail) => {
      const { seenBefore, powerDriver } = trail.story.host
      if (!isSilentAfterPower(trail) || !trail.story.service.dhcp || seenBefore === undefined) return undefined
      return powerDriver === 'manual' ? undefined : { likelihood: 'possible', evidence: power(trail) }
    },
  },
]
