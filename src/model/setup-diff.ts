// What differs between two setups in what they bring about: places, images, sizes, what is done afterwards. White space,
// comments, the order of attributes and defaults that are written out make no difference.
import type { DiskHint } from './host.ts'
import { type Content, type Layout, placesOf, type Size } from './layout.ts'
import type { Setup } from './setup.ts'

export const changeKinds = ['added', 'removed', 'changed'] as const

export type SetupChange = {
  readonly kind: (typeof changeKinds)[number]
  /** A place, as `system:2`, or a part of the setup. */
  readonly subject: string
  /** What of it, as `size`. */
  readonly what: string
  readonly from?: string
  readonly to?: string
}

/** What is told of one subject; what has no value, or is not done, is no fact. */
type Values = Readonly<Record<string, string | number | boolean | undefined>>

/** The facts of one subject, each with its value in words. */
type Facts = ReadonlyMap<string, string>

/** What is to be changed of `from` to have `to`, in the order of the documents. */
export function diffSetups(from: Setup, to: Setup): SetupChange[] {
  const [before, after] = [factsOf(from), factsOf(to)]
  return [...new Set([...before.keys(), ...after.keys()])].flatMap((subject) =>
    diffFacts(subject, before.get(subject), after.get(subject)),
  )
}

function diffFacts(subject: string, before: Facts | undefined, after: Facts | undefined): SetupChange[] {
  if (before === undefined) return whole('added', subject, after)
  if (after === undefined) return whole('removed', subject, before)
  return [...new Set([...before.keys(), ...after.keys()])].flatMap((what): SetupChange[] => {
    const [from, to] = [before.get(what), after.get(what)]
    if (from === to) return []
    const kind = from === undefined ? 'added' : to === undefined ? 'removed' : 'changed'
    return [{ kind, subject, what, ...shorten(from, to) }]
  })
}

/** The longest value that is shown whole, in characters. */
const shownMax = 1000

/** Of texts of many lines, the first line that differs. */
function shorten(from: string | undefined, to: string | undefined): { from?: string; to?: string } {
  const [before, after] = [from?.split('\n'), to?.split('\n')]
  const isLong = Math.max(before?.length ?? 0, after?.length ?? 0) > 1
  const line = isLong ? (before ?? []).findIndex((text, index) => text !== after?.[index]) : -1
  const show = (lines: readonly string[]): string => {
    const index = line < 0 && isLong ? (before?.length ?? 0) : Math.max(0, line)
    const text = (isLong ? (lines[index] ?? '(its end)') : (lines[0] ?? '')).trim()
    return `${isLong ? `line ${index + 1} of ${lines.length}: ` : ''}${text.slice(0, shownMax)}`
  }
  return { ...(before && { from: show(before) }), ...(after && { to: show(after) }) }
}

/** A subject that only one has is one change, with all its facts in words. */
function whole(kind: 'added' | 'removed', subject: string, facts: Facts | undefined): SetupChange[] {
  const text = [...(facts ?? [])]
    .map(([what, value]) => (value === 'yes' ? what : `${what} ${firstLine(value)}`))
    .join(', ')
  return [
    { kind, subject, what: 'all of it', ...(kind === 'added' ? shorten(undefined, text) : shorten(text, undefined)) },
  ]
}

function firstLine(text: string): string {
  const lines = text.trim().split('\n')
  return lines.length > 1 ? `(${lines.length} lines)` : text
}

function factsOf(setup: Setup): Map<string, Facts> {
  const { name, redeploy, layout, postInstall, transfer, finish, probe, deadlines, ...rest } = setup
  // Whoever gives setups a new part tells of it here too.
  rest satisfies Record<string, never>
  const subjects: [string, Values][] = [
    ['setup', { name, redeploy }],
    ...layoutFacts(layout),
    ...Object.entries(postInstall === undefined ? {} : postInstallFacts(postInstall)),
    ['transfer', transfer],
    ['finish', finish],
    ['probe', { kind: probe.kind, ...(probe.kind === 'tcp' ? { port: probe.port, expect: probe.expect } : {}) }],
    ['deadlines', deadlines],
  ]
  return new Map(subjects.map(([subject, facts]) => [subject, new Map(present(facts))]))
}

/** What has a value, in words; what is not done at all is no fact. */
function present(facts: Values): [string, string][] {
  return Object.entries(facts).flatMap(([what, value]): [string, string][] => {
    if (value === undefined || value === false || value === '') return []
    const words = what.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)
    return [[words, value === true ? 'yes' : String(value)]]
  })
}

function layoutFacts(layout: Layout): [string, Values][] {
  const contents = new Map(placesOf(layout).map(({ place, content }) => [place, contentFacts(content)]))
  const disks = layout.disks.flatMap((disk): [string, Values][] => [
    [
      `disk ${disk.name}`,
      {
        hints: disk.hints.map(hintInWords).join(' and '),
        erase: disk.erase === 'none' ? undefined : disk.erase,
        table: disk.table,
        ...contents.get(disk.name),
      },
    ],
    ...disk.partitions.map((partition): [string, Values] => [
      `${disk.name}:${partition.number}`,
      {
        size: sizeInWords(partition),
        start: partition.startBytes === undefined ? undefined : bytesInWords(partition.startBytes),
        type: partition.type,
        label: partition.label,
        uuid: partition.uuid,
        // The file system has a label and a uuid of its own.
        ...prefixed(contents.get(`${disk.name}:${partition.number}`)),
      },
    ]),
  ])
  const arrays = layout.arrays.map(({ name, level }): [string, Values] => [
    `array ${name}`,
    { level, ...contents.get(name) },
  ])
  const volumes = layout.groups.flatMap(({ name, volumes }) =>
    volumes.map((volume): [string, Values] => {
      const place = `${name}/${volume.name}`
      return [place, { size: sizeInWords(volume), ...contents.get(place) }]
    }),
  )
  return [...disks, ...arrays, ...volumes]
}

function prefixed(facts: Values = {}): Values {
  const { label, uuid, ...rest } = facts
  return { ...rest, 'file system label': label, 'file system uuid': uuid }
}

function contentFacts(content: Content): Values {
  const { kind, ...rest } = content
  return { content: kind, ...rest }
}

function sizeInWords({ sizeBytes, sizePercent }: Size): string {
  if (sizePercent !== undefined) return `${sizePercent} %`
  return sizeBytes === undefined ? 'all that is left' : bytesInWords(sizeBytes)
}

/** In the largest unit that says it exactly. */
function bytesInWords(bytes: number): string {
  const unit = (['GiB', 'MiB', 'KiB'] as const).find((_, index) => bytes > 0 && bytes % 1024 ** (3 - index) === 0)
  const exponent = unit === undefined ? 0 : { GiB: 3, MiB: 2, KiB: 1 }[unit]
  return `${bytes / 1024 ** exponent} ${unit ?? 'bytes'}`
}

function hintInWords({ property, operator, value }: DiskHint): string {
  return `${property} ${operator} ${property === 'size' ? bytesInWords(Number(value)) : value}`
}

function postInstallFacts(postInstall: NonNullable<Setup['postInstall']>): Record<string, Values> {
  const { network, cloudInit, scripts, authorizedKeys, ...rest } = postInstall
  return {
    'post-install': {
      ...rest,
      network: network.mode,
      prefix: network.prefixLength,
      gateway: network.gateway,
      dns: network.dns.join(' '),
      'authorized keys': authorizedKeys.map(({ user, key }) => `${user}: ${key}`).join('; '),
      // Their order is the order in which they run.
      scripts: scripts.map(({ name }) => name).join(', '),
    },
    ...(cloudInit === undefined ? {} : { 'cloud-init': { ...cloudInit } }),
    ...Object.fromEntries(scripts.map(({ name, ...facts }) => [`script ${name}`, { ...facts }])),
  }
}
