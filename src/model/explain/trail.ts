// A story as the rules look at it: the events of the last attempt, how far they came, and since when it is quiet. Pure.
import { isActive } from '../deployment.ts'
import type { Story, StoryEvent } from './story.ts'

/** What a machine passes on its way, in order. Some are not seen on every way: a card with iPXE needs no loader. */
export const milestoneNames = [
  'power',
  'dhcp',
  'loader',
  'script',
  'kernel',
  'stage-1',
  'stage-2',
  'agent',
  'proven',
  'booted',
  'observed',
] as const
export type MilestoneName = (typeof milestoneNames)[number]

type MilestoneForm = {
  readonly name: MilestoneName
  readonly words: string
  /** Its absence alone means nothing. */
  readonly isOptional?: true
  readonly is: (event: StoryEvent) => boolean
}

const sent = (event: StoryEvent): boolean => event.kind === 'http-sent' || event.kind === 'tftp-sent'

/** The path of the boot namespace that an event of TFTP or HTTP is about. */
export function pathOf({ text }: StoryEvent): string | undefined {
  return /^(?:fetched|asks for|asked for|began) (\S+) by/.exec(text)?.[1] ?? /^TFTP of (\S+) failed/.exec(text)?.[1]
}

const fileOf = (event: StoryEvent): string => pathOf(event) ?? ''
const isScoutFile = (event: StoryEvent): boolean => /(^|\/)scout\//.test(fileOf(event))

/** What loaders are called: firmware fetches one of these, and what it fetches after them is the loader's own business. */
export const isLoaderFile = (event: StoryEvent): boolean =>
  /(^|\/)(lpxelinux\.0|pxelinux\.0|grubpc\.0|undionly\.kpxe|[a-z]+(x64|aa64|ia32)?\.efi)$/.test(fileOf(event))
export const isStage2 = (event: StoryEvent): boolean => isScoutFile(event) && fileOf(event).includes('stage2')
export const isKernelFile = (event: StoryEvent): boolean => isScoutFile(event) && !fileOf(event).includes('stage2')

/** Who sent a DHCP message, as its event says: `n01 (pxe, uefi-x64) sent discover ...`. */
export function clientOf({ source, text }: StoryEvent): string | undefined {
  return source === 'dhcp' ? /^\S+ \(([a-z-]+), [a-z0-9-]+\) sent /.exec(text)?.[1] : undefined
}

const isFirmware = (event: StoryEvent): boolean => ['pxe', 'ipxe', 'http-boot'].includes(clientOf(event) ?? '')

const forms: readonly MilestoneForm[] = [
  {
    name: 'power',
    words: 'its controller switched it on',
    is: ({ source, kind, text }) => source === 'power' && kind === 'power' && /^power (cycle|on|reset)/.test(text),
  },
  { name: 'dhcp', words: 'its firmware asked for an address by DHCP', is: isFirmware },
  { name: 'loader', words: 'it fetched its loader', isOptional: true, is: (e) => sent(e) && isLoaderFile(e) },
  { name: 'script', words: 'its loader asked for its boot script', is: ({ kind }) => kind === 'boot-script' },
  { name: 'kernel', words: 'it fetched the kernel of the scout', is: (e) => sent(e) && isKernelFile(e) },
  { name: 'stage-1', words: 'the scout asked for its address by DHCP', is: ({ kind }) => kind === 'dhcp-scout' },
  { name: 'stage-2', words: 'the scout fetched its stage 2', is: (e) => sent(e) && isStage2(e) },
  { name: 'agent', words: 'its agent registered', is: ({ kind }) => kind === 'registered' },
  { name: 'proven', words: 'its agent proved the disk', is: ({ kind }) => kind === 'completed' },
  {
    name: 'booted',
    words: 'it asked for its boot script again, or started from its disk',
    isOptional: true,
    is: ({ kind }) => kind === 'boot-script' || kind === 'dhcp-system',
  },
  { name: 'observed', words: 'its new system was seen', is: ({ kind }) => kind === 'done' },
]

export type Milestone = { readonly name: MilestoneName; readonly words: string; readonly event?: StoryEvent }

export type Trail = {
  readonly story: Story
  /** Of the last attempt, oldest first. */
  readonly events: readonly StoryEvent[]
  /** Of no host, since the attempt began. */
  readonly strangers: readonly StoryEvent[]
  readonly milestones: readonly Milestone[]
  /** The last milestone that was reached. */
  readonly reached: MilestoneName | undefined
  /** The first after it that every machine passes; undefined when all were. */
  readonly missing: Milestone | undefined
  /** How long nothing was heard of the machine: until now, or until the deployment ended. */
  readonly quietMs: number
  /** The deployment has ended unwell. */
  readonly hasFailed: boolean
  /** It ended unwell, or nothing moves for so long that it is not just slow. */
  readonly isStuck: boolean
}

/** Firmware takes up to a minute before it asks; a loader, kernel or scout that goes on does so within seconds. */
const firmwareQuietMs = 120_000
const bootQuietMs = 30_000
const agentQuietMs = 30_000

/** Whether an event is the machine's own: not the engine's, the Power Port's or a person's. */
export const isOfMachine = ({ source }: StoryEvent): boolean =>
  ['dhcp', 'tftp', 'http', 'agent', 'console'].includes(source)

/** Looks at a story. */
export function trailOf(story: Story): Trail {
  const began = story.events.findLastIndex(
    ({ source, kind, text }) => source === 'engine' && (kind === 'powering' || /^attempt \d/.test(text)),
  )
  const events = story.events.slice(Math.max(0, began))
  const since = events[0]?.at ?? 0
  const milestones = milestonesIn(events)
  const last = milestones.findLastIndex(({ event }) => event !== undefined)
  const missing = milestones.find(({ name }, index) => index > last && !isOptional(name))
  const { deployment } = story
  const end = deployment?.endedAt ?? story.now
  const lastHeard = events.findLast((event) => isOfMachine(event) || event.source === 'power')?.at ?? since
  const quietMs = Math.max(0, end - lastHeard)
  const hasFailed = deployment?.state === 'failed'
  const isRunning = deployment === undefined || isActive(deployment.state)
  const enough = last < milestoneNames.indexOf('dhcp') ? firmwareQuietMs : bootQuietMs
  const isLate = isRunning && quietMs >= (missing?.name === 'proven' ? agentQuietMs : enough)
  return {
    story,
    events,
    strangers: story.strangers.filter(({ at }) => at >= since),
    milestones,
    reached: milestones[last]?.name,
    missing,
    quietMs,
    hasFailed,
    isStuck: hasFailed || isLate,
  }
}

function isOptional(name: MilestoneName): boolean {
  return forms.find((form) => form.name === name)?.isOptional === true
}

/** What can only be seen of a machine whose disk is proven: before it the same events mean that it boots anew. */
const afterProof: readonly MilestoneName[] = ['booted', 'observed']

/** Each milestone with the first event that shows it, after those before it. */
function milestonesIn(events: readonly StoryEvent[]): Milestone[] {
  let from = 0
  let isProven = false
  return forms.map(({ name, words, is }) => {
    const index = events.findIndex((event, at) => at >= from && is(event))
    const event = events[index]
    if (event === undefined || (afterProof.includes(name) && !isProven)) return { name, words }
    from = index + 1
    isProven ||= name === 'proven'
    return { name, words, event }
  })
}

/** Whether the way came as far as this milestone, or further. */
export function hasReached({ reached }: Trail, name: MilestoneName): boolean {
  return reached !== undefined && milestoneNames.indexOf(reached) >= milestoneNames.indexOf(name)
}

/** Events of the attempt after the one of a milestone, or all of them when it was not reached. */
export function after({ events, milestones }: Trail, name: MilestoneName): readonly StoryEvent[] {
  const event = milestones.find((one) => one.name === name)?.event
  return event === undefined ? events : events.slice(events.indexOf(event) + 1)
}
