// `hades swarm`: how the image spreads in a rollout, the slowest hosts first; once, or live until all have it.
import { styleText } from 'node:util'
import type { Command } from 'commander'
import type { SwarmHostView, SwarmView } from '../contract/swarm-types.ts'
import { looks } from './looks.ts'
import { type Cell, duration, moment, plain, size, table } from './output.ts'
import { Progress } from './progress.ts'
import type { OpenSession, Session } from './session.ts'

/** How often the swarm is looked at: of ten thousand hosts one look takes the service a third of a second. */
const lookEveryMs = 2000

/** Where there is no terminal a line is written so often. */
const lineEveryMs = 5000

/** As many hosts as are shown unless more are asked for. */
const hostsShown = 30

export function addSwarmCommand(program: Command, open: OpenSession): void {
  program
    .command('swarm [rollout]')
    .description('how the image spreads: rates, copies out of the origin, the slowest hosts, when it ends')
    .option('-w, --watch', 'go on until every host has the image')
    .option('-n, --hosts <count>', 'how many hosts are shown, the slowest first', String(hostsShown))
    .action(async (id: string | undefined, options: { watch?: boolean; hosts: string }, command: Command) => {
      const session = open(command)
      const input = { ...(id === undefined ? {} : { rollout: Number(id) }), limit: Number(options.hosts) }
      if (options.watch) await watch(session, input)
      else session.show((await session.control.getSwarm(input)).swarm, (swarm) => text(swarm, Date.now()).join('\n'))
    })
}

async function watch({ control, format, print, show }: Session, input: { rollout?: number; limit: number }) {
  using progress = new Progress(process.stderr)
  // The rollout that was the newest at first stays the one that is watched.
  let which = input
  let saidAt = 0
  const onAbsence = (): void => progress.show(['the service does not answer; waiting for it'])
  for await (const { swarm } of looks(() => control.getSwarm(which), { everyMs: lookEveryMs, onAbsence })) {
    which = { ...input, rollout: swarm.rollout }
    const isOver = swarm.totals.running + swarm.totals.waiting === 0
    const now = Date.now()
    if (format === 'json') print(JSON.stringify(swarm))
    else if (isOver) {
      progress[Symbol.dispose]()
      show(swarm, () => text(swarm, now).join('\n'))
    } else if (progress.isLive) progress.show(text(swarm, now))
    else if (now - saidAt >= lineEveryMs) {
      saidAt = now
      print(`${moment(new Date(now).toISOString())}  ${line(swarm, now)}`)
    }
    if (isOver) return
  }
}

/** The whole as lines: two of the rollout, then a table of hosts. */
export function text(swarm: SwarmView, now: number): string[] {
  const { totals, hosts } = swarm
  const elapsed = (now - Date.parse(swarm.startedAt)) / 1000
  const head = `rollout ${swarm.rollout}  ${swarm.setup}  by ${swarm.engine}${limits(swarm)}  ${duration(elapsed)}`
  const more = totals.hosts - hosts.length
  return [
    styleText('bold', head),
    line(swarm, now),
    '',
    ...table(
      ['host', 'stands', 'does', 'has', 'rate', 'of origin', 'of peers', 'to peers', 'mostly from', ''],
      hosts.map(row),
    ).split('\n'),
    ...(more > 0 ? [`and ${more} more`] : []),
  ]
}

function limits({ egressBytesPerSecond, ingressBytesPerSecond }: SwarmView): string {
  const out = egressBytesPerSecond === undefined ? '' : `, out ${size(egressBytesPerSecond)}/s`
  const into = ingressBytesPerSecond === undefined ? '' : `, in ${size(ingressBytesPerSecond)}/s`
  return out + into
}

/** The state of the whole in one line, for logs too. */
export function line({ totals, estimateEndAt, stragglersEndAt }: SwarmView, now: number): string {
  const parts = [
    [
      `${totals.hosts} hosts: ${totals.running} fetching`,
      `${totals.ended} have it`,
      ...(totals.waiting > 0 ? [`${totals.waiting} to come`] : []),
      ...(totals.lost > 0 ? [`${totals.lost} lost`] : []),
    ].join(', '),
    `${size(totals.receivedBytesPerSecond)}/s`,
    ...(totals.copiesOutOfOrigin === undefined ? [] : [`${copies(totals.copiesOutOfOrigin)} out of the origin`]),
    ...fromPeers(totals.peersBytes, totals.originBytes),
    ...(estimateEndAt === undefined ? [] : [`ends ${ahead(estimateEndAt, now)}`]),
    ...(stragglersEndAt === undefined ? [] : [`stragglers ${ahead(stragglersEndAt, now)}`]),
  ]
  return parts.join(' · ')
}

export function copies(count: number): string {
  return `${count.toFixed(2)} ${count === 1 ? 'copy' : 'copies'}`
}

/** `from peers 83 %`, when anything came at all. */
export function fromPeers(peersBytes: number, originBytes: number): string[] {
  const all = peersBytes + originBytes
  return all > 0 ? [`from peers ${Math.floor((100 * peersBytes) / all)} %`] : []
}

function ahead(at: string, now: number): string {
  return `in ${duration(Math.max(0, Date.parse(at) - now) / 1000)} (${moment(at).replace(/\.\d+$/, '')})`
}

/** Longer names are cut: the columns behind them matter more. */
const cellLengthMax = 20

function short(words: string | undefined): string | undefined {
  return words !== undefined && words.length > cellLengthMax ? `${words.slice(0, cellLengthMax - 1)}…` : words
}

function row(host: SwarmHostView): Cell[] {
  const share = host.totalBytes > 0 ? Math.floor((100 * host.doneBytes) / host.totalBytes) : 0
  return [
    short(host.host),
    short([host.site, host.rack].filter(Boolean).join('/')),
    host.state === 'deploying' ? (host.step ?? host.state) : host.state,
    `${share} %`.padStart(5),
    `${size(host.bytesPerSecond)}/s`.padStart(10),
    size(host.fromOriginBytes).padStart(9),
    size(host.fromPeersBytes).padStart(9),
    size(host.toPeersBytes).padStart(9),
    short(plain(host.predecessor ?? host.sources[0]?.name ?? '')),
    host.isSlow ? 'slow' : '',
  ]
}
