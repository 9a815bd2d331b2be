// Every DHCP, TFTP and HTTP boot request as an event of its host's timeline. Events are written one after another, in the
// order in which they were seen, never hold up an answer, and wait for a database that is locked or away.
import type { Kysely } from 'kysely'
import { type BootView, bootByAddress, bootByMac } from '../db/boot.ts'
import { recordSighting } from '../db/discovered.ts'
import { addEvent } from '../db/events.ts'
import type { Schema } from '../db/schema.ts'
import { tellLimit } from '../lib/tell-limit.ts'
import { causeChain, Failure } from '../model/failure.ts'
import type { DhcpEvent } from './dhcp-server.ts'
import { preflightMac } from './preflight-probes.ts'
import type { RenderedScript, StrangersRequest } from './resolve.ts'
import type { TftpEvent } from './tftp-server.ts'
import { writeQueue } from './write-queue.ts'

/** A flood of requests may not take the memory. */
const usualWaitingMax = 10_000

/** Requests of machines that are no host of ours: enough to find them by, too few to fill a disk. */
const strangersRate = { burst: 200, perSecond: 20 }

export type BootRecorder = {
  readonly dhcp: (event: DhcpEvent) => void
  readonly tftp: (event: TftpEvent) => void
  readonly http: (request: HttpRequest) => void
  readonly script: (view: BootView, script: RenderedScript) => void
  readonly stranger: (request: StrangersRequest) => void
  /** Resolves when everything told so far is written. */
  readonly settled: () => Promise<void>
  /** Writes what can be written now; what cannot is lost. */
  readonly close: () => Promise<void>
}

export type BootRecorderOptions = {
  readonly now: () => number
  /** Told when an event could not be written. */
  readonly onLost: (error: unknown, text: string) => void
  /** Told when events begin to wait for the database. */
  readonly onHeldUp: (error: unknown) => void
  /** Events that wait for the database; more are counted. */
  readonly waitingMax?: number
}

/** One finished request to the boot namespace over HTTP. */
export type HttpRequest = {
  readonly path: string
  readonly peerAddress: string
  readonly status: number
  readonly bytes: number
  readonly ms: number
  /** Everything was sent before the connection ended. */
  readonly isWhole: boolean
}

type Line = {
  readonly source: 'dhcp' | 'tftp' | 'http'
  readonly kind: string
  readonly text: string
  /** How the host is found. */
  readonly whose: { readonly mac: string } | { readonly address: string } | undefined
}

/** Makes the recorder. */
export function bootRecorder(db: Kysely<Schema>, options: BootRecorderOptions): BootRecorder {
  const { now, onLost, onHeldUp, waitingMax = usualWaitingMax } = options
  const mayTellStranger = tellLimit(strangersRate)
  const queue = writeQueue({
    waitingMax,
    isPassing: (error) => error instanceof Failure && error.code === 'database-unavailable',
    writeLost: async (count) => {
      const text = `${count} requests of machines are in no timeline: ${waitingMax} events were waiting for the database`
      await addEvent(db, { source: 'service', kind: 'events-lost', text }, now())
    },
    onLost,
    onHeldUp,
  })
  const tell = (line: Line): void => queue.add({ text: line.text, write: writer(db, line, now(), mayTellStranger) })
  return {
    dhcp: (event) => {
      // Our own question to the other servers of the network.
      if (!('mac' in event) || event.mac !== preflightMac) tell(dhcpLine(event))
    },
    tftp: (event) => tell(tftpLine(event)),
    http: (request) => tell(httpLine(request)),
    script: (view, { via, loader, target, why, hasFailed }) => {
      const whose = { mac: view.mac }
      if (hasFailed) {
        const text = `could not boot ${target}: its ${loader} says so and asks again; its console has the reason`
        tell({ source: via, kind: 'boot-failed', text, whose })
        return
      }
      const because = why === undefined ? '' : `: ${why}`
      const text = `asked for its ${loader} script by ${via.toUpperCase()}: boots ${target}${because}`
      tell({ source: via, kind: 'boot-script', text, whose })
    },
    stranger: ({ mac, via, loader, answer }) => {
      const text = `asked for its ${loader} script by ${via.toUpperCase()}: it is no host and ${toldStrangers[answer]}`
      tell({ source: via, kind: 'boot-stranger', text, whose: { mac } })
    },
    settled: queue.settled,
    close: queue.close,
  }
}

const toldStrangers: Readonly<Record<StrangersRequest['answer'], string>> = {
  nothing: 'is told nothing',
  local: 'boots its disk',
  scout: 'boots the scout, to report what it is',
  hold: 'waits: many machines that nobody knows ask at once',
}

/**
 * Writes a line each time it is called; what it has found and done it does not do again. Of a change whose answer was lost it
 * cannot know: such an event can be there twice.
 */
function writer(
  db: Kysely<Schema>,
  line: Line,
  at: number,
  mayTellStranger: () => number | undefined,
): () => Promise<void> {
  let found: BootView | undefined | 'not asked' = 'not asked'
  let suppressed: number | undefined
  let isSeen = false
  return async () => {
    const { source, kind, text, whose } = line
    if (found === 'not asked') {
      found = whose && ('mac' in whose ? await bootByMac(db, whose.mac) : await bootByAddress(db, whose.address))
      suppressed = found ? 0 : mayTellStranger()
    }
    const view = found
    if (suppressed === undefined) return
    if (!view && whose && 'mac' in whose && !isSeen) {
      await recordSighting(db, { mac: whose.mac, source, said: text }, at)
      isSeen = true
    }
    const from = whose && !view ? ` (from ${'mac' in whose ? whose.mac : whose.address})` : ''
    const more = suppressed > 0 ? ` (and ${suppressed} more before it)` : ''
    const said =
      view && kind === 'dhcp-unknown' ? `${view.host} has no IP address for its MAC address ${view.mac}` : text
    const event = { source, kind, text: said + from + more, hostId: view?.hostId, deploymentId: view?.deployment?.id }
    await addEvent(db, event, at)
  }
}

function dhcpLine(event: DhcpEvent): Line {
  if (event.kind === 'dhcp.dropped') return { source: 'dhcp', kind: 'dhcp-dropped', text: event.text, whose: undefined }
  const why = event.kind === 'dhcp.failed' ? `: ${causeChain(event.cause).join(': ')}` : ''
  return { source: 'dhcp', kind: dhcpKind(event), text: event.text + why, whose: { mac: event.mac } }
}

function httpLine({ path, peerAddress, status, bytes, ms, isWhole }: HttpRequest): Line {
  const common = { source: 'http', whose: { address: peerAddress } } as const
  if (status >= 400) return { ...common, kind: 'http-refused', text: `asked for ${path} by HTTP and got ${status}` }
  if (isWhole) return { ...common, kind: 'http-sent', text: `fetched ${path} by HTTP: ${bytes} bytes in ${ms} ms` }
  const text = `began ${path} by HTTP, and its connection ended after ${ms} ms, before all ${bytes} bytes were sent`
  return { ...common, kind: 'http-aborted', text }
}

/**
 * The new system shows itself by asking for its address as itself, and the scout as the scout: both have their own kind.
 * So has what `explain` must not take for a step forward.
 */
function dhcpKind(event: DhcpEvent): string {
  if ('otherServer' in event && event.otherServer !== undefined) return 'dhcp-other-server'
  if ('answer' in event && event.answer !== 'none' && event.answer !== 'nak' && event.bootFile === undefined) {
    if (event.client.kind === 'pxe' || event.client.kind === 'http-boot') return 'dhcp-no-loader'
  }
  if (event.kind === 'dhcp.request' && event.answer === 'ack') {
    if (event.client.kind === 'system') return 'dhcp-system'
    if (event.client.kind === 'scout') return 'dhcp-scout'
  }
  return event.kind.replace('.', '-')
}

function tftpLine(event: TftpEvent): Line {
  const whose = { address: event.peer.address }
  switch (event.kind) {
    case 'started': {
      const { blksize, windowsize } = event.options
      const text = `asks for ${event.path} by TFTP, blocks of ${blksize}, windows of ${windowsize}`
      return { source: 'tftp', kind: 'tftp-asked', text, whose }
    }
    case 'finished':
      return {
        source: 'tftp',
        kind: 'tftp-sent',
        text: `fetched ${event.path} by TFTP: ${event.bytes} bytes in ${Math.round(event.ms)} ms`,
        whose,
      }
    case 'failed':
      return {
        source: 'tftp',
        kind: 'tftp-failed',
        text: `TFTP of ${event.path ?? 'an unreadable request'} failed (${event.why}): ${event.detail}; ${event.bytes} bytes were acknowledged`,
        whose,
      }
  }
}
