// Rules for the way from the loader to the agent: files, scripts, kernel, stage 1 and stage 2.
import { type Found, foundIn, foundInLines, linesOf, type Rule, seconds } from './rule.ts'
import type { StoryEvent } from './story.ts'
import { after, hasReached, isKernelFile, isLoaderFile, isStage2, pathOf, type Trail } from './trail.ts'

const stuckAt = (trail: Trail, name: NonNullable<Trail['reached']>): boolean => trail.isStuck && trail.reached === name
const isRefused = ({ kind, text }: StoryEvent): boolean =>
  kind === 'http-refused' || (kind === 'tftp-failed' && text.includes('(not-found)'))
const isTftpTimeout = ({ kind, text }: StoryEvent): boolean => kind === 'tftp-failed' && text.includes('(timed-out)')
const isBroken = ({ kind }: StoryEvent): boolean => kind === 'http-aborted'
const isScoutScript = ({ kind, text }: StoryEvent): boolean => kind === 'boot-script' && text.endsWith('boots scout')

/** GRUB and pxelinux look for files that nobody has to have; these are missed. */
const isNeeded = (event: StoryEvent): boolean => isLoaderFile(event) || isKernelFile(event) || isStage2(event)

function missingFile(trail: Trail): Found | undefined {
  if (!trail.isStuck || hasReached(trail, 'agent')) return undefined
  const refused = trail.events.filter((event) => isRefused(event) && isNeeded(event))
  // A file that came on another way, or later, was not missed.
  const missed = refused.filter((event) => {
    const path = pathOf(event)
    return !trail.events.some((e) => e.kind.endsWith('-sent') && pathOf(e) === path)
  })
  return missed.length === 0 ? undefined : { likelihood: 'certain', evidence: missed.slice(-6) }
}

const lowMemoryBytes = 900 * 2 ** 20

export const bootRules: readonly Rule[] = [
  {
    cause: 'secure-boot',
    title: 'Secure Boot refuses the loader or the kernel.',
    check: [
      'Switch Secure Boot off in the firmware, or boot it through shim with signed GRUB and kernel (docs/netboot.md).',
      'The console of the machine says `Security Violation` or `Access Denied`.',
    ],
    find: (trail) => {
      if (hasReached(trail, 'agent')) return undefined
      const lines = linesOf(trail)
      const told = foundInLines(
        lines,
        /security violation|access denied|bad shim signature|prohibited by secure boot/i,
        'certain',
      )
      if (told) return told
      const uefi = trail.events.some(({ text }) => / \((?:pxe|http-boot), uefi-/.test(text))
      if (!stuckAt(trail, 'loader') || !uefi) return undefined
      return { likelihood: 'likely', evidence: after(trail, 'dhcp').filter(isLoaderFile).slice(-6) }
    },
  },
  {
    cause: 'scout-out-of-memory',
    title: 'The machine has too little memory for the scout.',
    check: ['The scout needs 1 GiB; look at the memory modules that the firmware counts.'],
    find: (trail) => {
      const form =
        /out of memory|oom-kill|killed process \d+|initramfs unpacking failed: write error|no space left on device/i
      const told = foundInLines(linesOf(trail), form, 'certain')
      if (told && trail.isStuck) return told
      const { inventory } = trail.story
      if (!trail.isStuck || inventory === undefined || inventory.memoryBytes >= lowMemoryBytes) return undefined
      if (!hasReached(trail, 'kernel') || hasReached(trail, 'proven')) return undefined
      const last = trail.milestones.findLast(({ event }) => event)?.event
      const detail = `it has ${Math.round(inventory.memoryBytes / 2 ** 20)} MiB`
      return { likelihood: 'likely', evidence: last ? [last] : [], detail }
    },
  },
  {
    cause: 'kernel-panic',
    title: 'The kernel of the scout stopped with a panic.',
    check: ['The lines before it on the console.', 'Memory and firmware of the machine; another machine of its kind.'],
    find: (trail) =>
      foundInLines(linesOf(trail), /kernel panic|not syncing|Machine check events? logged|Oops:/i, 'certain'),
  },
  {
    cause: 'stage-2-damaged',
    title: 'Stage 2 of the scout arrives damaged: its digest is not the one that was built.',
    check: [
      'The scout folder on the server: build it again and restart the service, which reads its digest at its start.',
      'The network: a card or a switch that damages packets. Other machines tell which.',
    ],
    find: (trail) => {
      const told = foundInLines(trail.story.console, /SHA-256 of its \d+ bytes is/, 'certain')
      if (told) return told
      const fetched = trail.events.filter((event) => event.kind === 'http-sent' && isStage2(event))
      if (fetched.length < 2 || hasReached(trail, 'agent')) return undefined
      return { likelihood: 'likely', evidence: fetched.slice(-6), detail: `it was fetched ${fetched.length} times` }
    },
  },
  {
    cause: 'file-missing',
    title: 'A file that the machine needs to boot is not there.',
    check: ['The folders that the service was started with (--loaders, --scout): make build. hades preflight looks.'],
    find: missingFile,
  },
  {
    cause: 'loader-could-not-boot',
    title: 'The loader says that it could not boot what its script names.',
    check: ["The machine's console has the loader's own words.", 'Whether it reaches the HTTP port of the service.'],
    find: (trail) =>
      trail.isStuck && !hasReached(trail, 'agent')
        ? foundIn(trail.events, ({ kind }) => kind === 'boot-failed', 'likely')
        : undefined,
  },
  {
    cause: 'mtu',
    title: 'Large packets do not get through, small ones do: the MTU on the way is smaller than that of the ends.',
    check: [
      'ping -M do -s 1472 between server and machine.',
      'Jumbo frames on the server or on one switch only; a tunnel.',
    ],
    find: (trail) => {
      if (hasReached(trail, 'agent') || !trail.isStuck) return undefined
      const answered = (e: StoryEvent): boolean => isTftpTimeout(e) && e.text.includes('after it had answered')
      const tftp = foundIn(trail.events, answered, 'likely')
      const hasSmall = hasReached(trail, 'script')
      return tftp ?? (hasSmall ? foundIn(trail.events, isBroken, 'likely') : undefined)
    },
  },
  {
    cause: 'tftp-blocked',
    title: 'TFTP requests reach the server, and its answers do not reach the machine.',
    check: [
      'A firewall between them, or on the server: answers come from a new UDP port each, not from 69 (RFC 1350).',
      'Let UDP from the server through, or load the TFTP helper of the firewall (nf_conntrack_tftp).',
    ],
    find: (trail) => (hasReached(trail, 'script') ? undefined : foundIn(trail.events, isTftpTimeout, 'likely')),
  },
  {
    cause: 'loader-not-asked',
    title: 'The machine has its address and never asks for its loader.',
    check: [
      'A firewall that blocks UDP 69 or TCP 7780 on the server.',
      'Another DHCP or proxyDHCP server that names another boot file.',
      'Old PXE ROMs: set the loader of the host (hades host change --loader).',
    ],
    find: (trail) => {
      const requests = trail.events.filter((e) => e.kind === 'dhcp-request')
      const asked = trail.events.some(({ source }) => source === 'tftp' || source === 'http')
      if (!stuckAt(trail, 'dhcp') || asked || requests.length === 0) return undefined
      return { likelihood: 'likely', evidence: requests.slice(-6) }
    },
  },
  {
    cause: 'loader-no-network',
    title: 'The loader was fetched and started, and did not get as far as asking for its script.',
    check: [
      "The machine's console: the loader's own DHCP, its network driver.",
      'Another loader for this host: hades host change --loader (ipxe, grub, pxelinux).',
    ],
    find: (trail) =>
      stuckAt(trail, 'loader')
        ? { likelihood: 'possible', evidence: after(trail, 'dhcp').filter(isLoaderFile).slice(-6) }
        : undefined,
  },
  {
    cause: 'script-for-stranger',
    title: 'A loader asked for the script of a MAC address that belongs to no host.',
    check: ['Whether the machine booted by another of its cards; add that interface to the host.'],
    find: (trail) => {
      const isScript = ({ text }: StoryEvent): boolean =>
        /asked for (ipxe|grub|pxelinux\.cfg)\/\S* by HTTP and got 404|TFTP of (ipxe|grub|pxelinux\.cfg)\/\S*[0-9a-f]{2}(-[0-9a-f]{2}){5} failed/.test(
          text,
        )
      if (!trail.isStuck || hasReached(trail, 'script')) return undefined
      return foundIn([...trail.events, ...trail.strangers], isScript, 'likely')
    },
  },
  {
    cause: 'boot-loop',
    title: 'The machine boots the scout again and again, and never gets to its agent.',
    check: ["The machine's console while the scout starts; memory, a watchdog, a driver that crashes."],
    find: (trail) => {
      if (hasReached(trail, 'agent')) return undefined
      const scripts = trail.events.filter(isScoutScript)
      return scripts.length < 3 ? undefined : { likelihood: 'likely', evidence: scripts.slice(-6) }
    },
  },
  {
    cause: 'kernel-not-fetched',
    title: 'The loader has its script, and does not fetch the kernel.',
    check: [
      'TCP 7780 from the machine to the server: a firewall, a route.',
      'A loader without HTTP: pxelinux.0 instead of lpxelinux.0.',
    ],
    find: (trail) =>
      stuckAt(trail, 'script') && trail.events.some(isScoutScript)
        ? { likelihood: 'likely', evidence: trail.events.filter(isScoutScript).slice(-1) }
        : undefined,
  },
  {
    cause: 'scout-silent',
    title:
      'The kernel was fetched, and the scout never asked for an address: no driver, no link, or a kernel that hangs.',
    check: [
      "The machine's console: lines with `hades-scout:`.",
      'Whether the scout has a driver for this card (docs/scout.md).',
      'The switch port: spanning tree takes the link down for 30 s when a kernel resets the card.',
    ],
    find: (trail) => {
      if (!stuckAt(trail, 'kernel')) return undefined
      const files = trail.events.filter((event) => event.kind.endsWith('-sent') && isKernelFile(event))
      return { likelihood: 'likely', evidence: files.slice(-3), detail: `nothing for ${seconds(trail.quietMs)}` }
    },
  },
  {
    cause: 'stage-2-not-fetched',
    title: 'The scout has its address and does not get its stage 2.',
    check: ['TCP 7780 from the machine to the server: a firewall, a route, the address that the service was given.'],
    find: (trail) =>
      stuckAt(trail, 'stage-1')
        ? { likelihood: 'likely', evidence: trail.events.filter(({ kind }) => kind === 'dhcp-scout').slice(-1) }
        : undefined,
  },
]
