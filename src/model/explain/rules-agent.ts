// Rules for the agent's work, and for what becomes of the machine afterwards.
import type { FailureCode } from '../failure.ts'
import {
  type Found,
  failedEvent,
  failedWith,
  failureWords,
  foundIn,
  foundInLines,
  linesOf,
  type Rule,
  seconds,
} from './rule.ts'
import type { StoryEvent } from './story.ts'
import { after, clientOf, hasReached, isOfMachine, type Trail } from './trail.ts'

/** A code of the agent that says all there is to say. */
function byCode(cause: string, codes: readonly FailureCode[], title: string, check: readonly string[]): Rule {
  return { cause, title, check, find: (trail) => failedWith(trail, codes) }
}

const slowMbit = 100

/** The link that the machine boots by, or the only one with a carrier. */
function slowLink({ story }: Trail): number | undefined {
  const links = story.inventory?.interfaces.filter(({ carrier }) => carrier) ?? []
  const ours = links.filter(({ mac }) => story.host.interfaces.some((one) => one.mac === mac))
  const speeds = (ours.length > 0 ? ours : links).flatMap(({ speedMbit }) => (speedMbit ? [speedMbit] : []))
  const fastest = speeds.length === 0 ? undefined : Math.max(...speeds)
  return fastest !== undefined && fastest <= slowMbit ? fastest : undefined
}

const tlsWords = /certificate|self.signed|TLS|SSL|ERR_TLS|wrong version number/
const clockWords = /not yet valid|has expired|CERT_HAS_EXPIRED|CERT_NOT_YET_VALID/i
const isClockOff = ({ kind }: StoryEvent): boolean => kind === 'clock-off'
const isLocalScript = ({ kind, text }: StoryEvent): boolean => kind === 'boot-script' && /boots local/.test(text)

/** The new system was not seen: what was, since the agent handed over. */
function unseen(trail: Trail): readonly StoryEvent[] | undefined {
  const { deployment } = trail.story
  const isUnseen = deployment?.failure?.code === 'probe-timeout' || (deployment?.state === 'rebooting' && trail.isStuck)
  return isUnseen && hasReached(trail, 'proven') ? after(trail, 'proven') : undefined
}

const isDhcpSystem = (event: StoryEvent): boolean => event.kind === 'dhcp-system'

export const agentRules: readonly Rule[] = [
  {
    cause: 'token-replayed',
    title:
      'Another agent came with a boot token that was used already: the machine booted twice, or there are two of it.',
    check: [
      'Two machines with the same MAC address, or one that was reset in the middle.',
      'Deploy it again: a new boot has a new token.',
    ],
    find: (trail) =>
      foundIn(
        trail.events,
        ({ kind, text }) => kind === 'token-refused' && text.includes('used by another agent'),
        'certain',
      ),
  },
  {
    cause: 'token-stale',
    title: 'An agent came with a boot token that is not good now: it booted for an earlier attempt or deployment.',
    check: ['Reset the machine: the next boot gets the token of now.'],
    find: (trail) => {
      const found = foundIn(trail.events, ({ kind }) => kind === 'token-refused', 'certain')
      return hasReached(trail, 'agent') ? undefined : found
    },
  },
  {
    cause: 'clock-wrong',
    title: "The machine's clock is wrong.",
    check: [
      'Set the clock of the machine (its battery may be dead).',
      'What checks certificates will refuse them until then.',
    ],
    find: (trail) => {
      const clock = foundIn(trail.events, isClockOff, 'possible')
      const told = foundInLines([...linesOf(trail), failureWords(trail)], clockWords, 'certain')
      if (told && trail.isStuck) return { ...told, evidence: [...(clock?.evidence ?? []), ...failedEvent(trail)] }
      return clock && trail.isStuck ? { ...clock, likelihood: 'likely' } : clock
    },
  },
  {
    cause: 'tls',
    title: 'A secure connection could not be made.',
    check: [
      'The certificate of the service, and the one that the machine was given; hades preflight tells its expiry.',
      'Something between them that opens connections (a proxy).',
    ],
    find: (trail) => {
      const refused = foundIn([...trail.events, ...trail.strangers], ({ kind }) => kind === 'tls-failed', 'certain')
      if (refused && trail.isStuck && !hasReached(trail, 'agent')) return refused
      const words = [...linesOf(trail), failureWords(trail)]
      const told = trail.isStuck ? foundInLines(words, tlsWords, 'certain') : undefined
      return told && { ...told, evidence: failedEvent(trail) }
    },
  },
  byCode('disk-none', ['disk-none'], 'No disk of the machine is the one that the setup asks for.', [
    "Compare the setup's disk hints with the inventory: hades host show.",
    'A disk that died, a controller without a driver or in RAID mode.',
  ]),
  byCode(
    'disk-ambiguous',
    ['disk-ambiguous'],
    'Several disks of the machine fit the setup, and none is taken by guess.',
    ["Add a hint (serial, wwn, size, path) to the setup's disk until exactly one fits."],
  ),
  byCode('disk-changed', ['disk-changed'], 'The disk is not the one that was deployed before: nothing was written.', [
    'Whether it is the right machine and the right disk; then hades deploy --accept-new-disk.',
  ]),
  byCode('disk-error', ['disk-error'], 'The disk fails, or does not hold what was written to it.', [
    "The agent's log: kernel lines with `I/O error`.",
    'smartctl -a on the disk; its cable; replace it.',
  ]),
  byCode(
    'image-corrupt',
    ['image-corrupt', 'image-broken'],
    'The image on the server is damaged, or not signed by this service.',
    ['Publish the image again; hades image list tells where it is.', 'The disk of the image library.'],
  ),
  byCode('image-too-large', ['image-too-large'], 'The image is larger than the disk or partition that it goes to.', [
    'A larger disk, or a smaller image.',
  ]),
  byCode(
    'origin-unreachable',
    ['origin-unreachable', 'origin-error'],
    'The agent could not fetch the image from the origin.',
    [
      'Whether the service runs, and TCP 7780 from the machine to it.',
      'The address that the service was started with (--address).',
      'Free space and health of the image library.',
    ],
  ),
  byCode('post-install-failed', ['post-install-failed'], 'What the setup does after the images failed.', [
    'The action that the message names, and its output in the log.',
  ]),
  byCode(
    'setup-unfit',
    ['setup-invalid', 'unknown-script'],
    'The setup asks for something that this machine or this service does not have.',
    ['The message names it.'],
  ),
  {
    cause: 'slow-link',
    title: 'The network link of the machine runs at 100 Mbit/s or less.',
    check: ['The cable (four pairs), the switch port, a fixed speed on one side: ethtool.'],
    find: (trail): Found | undefined => {
      const speed = slowLink(trail)
      if (speed === undefined || !hasReached(trail, 'agent')) return undefined
      const isLate = trail.story.deployment?.failure?.code === 'deadline'
      const evidence = trail.events.filter(({ kind }) => kind === 'registered')
      return { likelihood: isLate ? 'likely' : 'possible', evidence, detail: `${speed} Mbit/s` }
    },
  },
  {
    cause: 'too-slow',
    title: 'The agent was still at work when the time of the setup was over.',
    check: [
      'hades swarm: which hosts are slow, and at what.',
      'Link speed, disk speed; or give the setup more time (deadlines deploy).',
    ],
    find: (trail) => {
      const found = failedWith(trail, ['deadline'])
      return found && { ...found, likelihood: 'likely' }
    },
  },
  {
    cause: 'machine-restarted',
    title: 'The machine started again while its agent was at work: a loss of power, a watchdog, a crash of the kernel.',
    check: ['Its console and the event log of its controller (ipmitool sel list).', 'Memory; power supply.'],
    find: (trail) => {
      const again = trail.story.events.filter(
        ({ kind, text }) => kind === 'booting' && text.includes('booted again while its agent'),
      )
      if (again.length > 0) return { likelihood: 'likely', evidence: again }
      if (trail.story.deployment?.failure?.code !== 'agent-silent' || !/booted again/.test(failureWords(trail)))
        return undefined
      return { likelihood: 'certain', evidence: failedEvent(trail) }
    },
  },
  {
    cause: 'agent-silent',
    title: 'The agent has stopped reporting: the machine hangs, lost its network, or was switched off.',
    check: ['The console of the machine; is it still in the scout?', 'Its link and the switch; hades power status.'],
    find: (trail) => {
      const isSilent = trail.story.deployment?.failure?.code === 'agent-silent'
      const isQuiet = trail.story.deployment?.state === 'deploying' && trail.isStuck
      if (!isSilent && !isQuiet) return undefined
      const last = trail.events.findLast(({ source }) => source === 'agent')
      return { likelihood: isSilent ? 'likely' : 'possible', evidence: last ? [last, ...failedEvent(trail)] : [] }
    },
  },
  {
    cause: 'disk-does-not-boot',
    title: 'The new system does not start from its disk: the machine is sent there and asks the network again.',
    check: [
      'The console after `boots local`.',
      'BIOS or UEFI: does the image have a loader for how this machine boots?',
      'On UEFI: the boot entry of the proof (hades proof), and whether the firmware kept it.',
    ],
    find: (trail) => {
      const seen = unseen(trail) ?? []
      const scripts = seen.filter(isLocalScript)
      return scripts.length < 2 || seen.some(isDhcpSystem)
        ? undefined
        : { likelihood: 'likely', evidence: scripts.slice(-6) }
    },
  },
  {
    cause: 'probe-not-answered',
    title: 'The new system runs, it asked for its address, but does not answer as the setup expects.',
    check: [
      'The probe of the setup: port and expected text.',
      'The service in the new system (sshd) and its firewall.',
    ],
    find: (trail) => {
      const seen = unseen(trail)?.filter(isDhcpSystem) ?? []
      if (seen.length === 0) return undefined
      return {
        likelihood: 'likely',
        evidence: seen.slice(-3),
        detail: `looked for by ${trail.story.deployment?.probe}`,
      }
    },
  },
  {
    cause: 'system-hangs',
    title: 'The machine was sent to its disk, and nothing was heard of the new system.',
    check: [
      'Its console: does it stand in its loader, in a kernel panic, at a missing root?',
      'Its network: does it take its address by DHCP, or a fixed one that is wrong?',
    ],
    find: (trail) => {
      const seen = unseen(trail)
      const scripts = seen?.filter(isLocalScript) ?? []
      return scripts.length === 1 && !seen?.some((e) => clientOf(e) === 'system')
        ? { likelihood: 'likely', evidence: scripts }
        : undefined
    },
  },
  {
    cause: 'no-restart',
    title: 'The machine never came back from its reboot, or starts its disk without asking anybody.',
    check: [
      'Its console: some firmware hangs at a warm reboot; the setup may power it off and on instead.',
      'Its network in the new system: a fixed address, a missing driver.',
    ],
    find: (trail) => {
      const seen = unseen(trail)
      const isHeard = seen?.some(({ source }) => source === 'dhcp' || source === 'tftp' || source === 'http') ?? true
      return isHeard
        ? undefined
        : {
            likelihood: 'possible',
            evidence: trail.events.filter(({ kind }) => kind === 'completed'),
            detail: `nothing for ${seconds(trail.quietMs)}`,
          }
    },
  },
  {
    cause: 'service-restarted',
    title: 'The service was started anew in the middle; what machines asked meanwhile was not answered.',
    check: ["The service's log; why it ended."],
    find: (trail) => {
      const began = trail.events[0]?.at ?? 0
      const isStart = ({ source, kind, at }: StoryEvent): boolean =>
        source === 'service' && kind === 'started' && at > began
      const found = trail.isStuck ? foundIn(trail.strangers, isStart, 'possible') : undefined
      // Heard before and not after: what it asked for in between nobody answered.
      const heardAt = trail.events.findLast(isOfMachine)?.at ?? 0
      const isLast = (found?.evidence[0]?.at ?? 0) > heardAt
      return found && isLast && !hasReached(trail, 'proven') ? { ...found, likelihood: 'likely' } : found
    },
  },
]
