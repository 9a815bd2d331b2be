// Which engine brings an image's frames, as the instructions say, with the plain one behind it: whatever keeps the swarm or
// aria2 from working costs speed, never the deployment.
import type { TransferOrder } from '../contract/types.ts'
import type { Secret } from '../lib/secret.ts'
import { causeChain, Failure } from '../model/failure.ts'
import type { Manifest } from '../model/image.ts'
import type { PieceGeometry, TransferEngine } from '../model/swarm.ts'
import { announceWord } from '../model/token.ts'
import { parseTorrent, torrentBytesMax } from '../protocol/torrent.ts'
import { startAria2 as startAria2Engine } from '../swarm/aria2.ts'
import { joinSwarm } from '../swarm/swarm.ts'
import { makeAria2Place } from './aria2-place.ts'
import { FallbackFrames } from './fallback-frames.ts'
import { piecesOfFrame } from './frame-assembly.ts'
import type { FrameSource } from './frame-source.ts'
import { HttpFrames } from './http-frames.ts'
import type { Log } from './log.ts'
import type { Origin } from './origin.ts'
import { PieceFrames } from './piece-frames.ts'
import { openSpillDisk, type SpillDisk, type SpillPlace } from './spill-disk.ts'

/** What is needed to begin must be there by then. */
const torrentMsMax = 30_000

export type EngineWork = {
  readonly order: TransferOrder
  readonly imageUrl: string
  readonly manifest: Manifest
  readonly origin: Origin
  /** Where on a disk what memory does not hold may go; undefined where there is no room. */
  readonly spillTo: SpillPlace | undefined
  /** Requests in flight, where the plain engine asks. */
  readonly connections: number
  /** For compressed pieces. */
  readonly budgetBytes: number
  /** Where other hosts reach this one. */
  readonly listen: { readonly host: string; readonly port: number }
  /** What the tracker knows this agent by. */
  readonly sessionKey: Secret
  /** As `HaDeS 0.1.0`. */
  readonly client: string
  readonly log: Log
  /** Whether a frame is still to be brought; asked when frames are. All are unless given. */
  readonly isWanted?: ((number: number) => boolean) | undefined
  /** The engine could not start or go on: why, in words. The plain one takes over when this has resolved. */
  readonly onFellBack: (text: string) => Promise<void>
}

/** The source of the frames. Nothing begins before they are asked for. */
export function openSource(work: EngineWork): FrameSource {
  const { engine } = work.order
  const { isWanted: isWantedAtAll = () => true } = work
  const plain = (isMissing: (number: number) => boolean) => {
    const { origin, imageUrl, manifest, connections } = work
    const isWanted = (number: number) => isWantedAtAll(number) && isMissing(number)
    return new HttpFrames({ origin, imageUrl, manifest, connections, isWanted })
  }
  if (engine === 'http') return plain(() => true)
  return new FallbackFrames({
    engine,
    first: (signal) => starts[engine](work, signal),
    second: plain,
    onFellBack: (reason) => work.onFellBack(`${engine} -> http: ${causeChain(reason).join(': ')}`),
  })
}

const starts: Readonly<
  Record<Exclude<TransferEngine, 'http'>, (work: EngineWork, signal: AbortSignal) => Promise<FrameSource>>
> = { swarm: startSwarm, aria2: startAria2 }

async function startSwarm(work: EngineWork, signal: AbortSignal): Promise<FrameSource> {
  const { order, manifest, log } = work
  const token = announceWord(work.sessionKey)
  const torrent = await fetchTorrent(work, signal)
  const spill = await openSpill(work, torrent.info.pieceBytes)
  try {
    const swarm = await joinSwarm({
      torrent,
      wanted: wantedPieces(work, torrent.info),
      webSeeds: [work.imageUrl],
      tracker: { url: order.announceUrl, token },
      listen: work.listen,
      budgetBytes: work.budgetBytes,
      spillArea: spill?.area,
      egressBytesPerSecond: order.egressBytesPerSecond,
      ingressBytesPerSecond: order.ingressBytesPerSecond,
      siteEgressBytesPerSecond: order.siteEgressBytesPerSecond,
      siteIngressBytesPerSecond: order.siteIngressBytesPerSecond,
      client: work.client,
      log: (line) => log.line(line),
    })
    log.line(`in the swarm of ${torrent.infoHash}, other hosts reach this one at port ${swarm.port}`)
    return new PieceFrames(swarm, {
      engine: 'swarm',
      manifest,
      geometry: torrent.info,
      isWanted: work.isWanted,
      onClosed: quietly(spill?.close, log),
    })
  } catch (error) {
    await quietly(spill?.close, log)()
    throw error
  }
}

/** The pieces of the frames that are to be brought; undefined: all of them, those that hold no frame too. */
function wantedPieces({ manifest, isWanted = () => true }: EngineWork, geometry: PieceGeometry) {
  const numbers = [...manifest.frames.keys()]
  const isData = (number: number) => manifest.frames[number]?.class === 'data'
  if (numbers.every((number) => !isData(number) || isWanted(number))) return undefined
  return new Set(numbers.filter(isWanted).flatMap((number) => piecesOfFrame(manifest, number, geometry)))
}

async function startAria2(work: EngineWork, signal: AbortSignal): Promise<FrameSource> {
  const { order, manifest, log } = work
  const token = announceWord(work.sessionKey)
  if (manifest.frames.some((frame, number) => frame.class === 'data' && work.isWanted?.(number) === false)) {
    throw new Error('aria2 fetches an image whole: the frames that differ come by ranges from the origin')
  }
  const { info, infoHash } = await fetchTorrent(work, signal)
  const place = await makeAria2Place(work)
  try {
    const aria2 = await startAria2Engine({
      info,
      folder: place.folder,
      webSeeds: [work.imageUrl],
      tracker: { url: order.announceUrl, token },
      port: work.listen.port,
      // It does not know sites: all that it moves is under their caps too.
      egressBytesPerSecond: smaller(order.egressBytesPerSecond, order.siteEgressBytesPerSecond),
      ingressBytesPerSecond: smaller(order.ingressBytesPerSecond, order.siteIngressBytesPerSecond),
      log: (line) => log.line(line),
    })
    log.line(`aria2 is process ${aria2.pid} and fetches ${infoHash}`)
    return new PieceFrames(aria2, { engine: 'aria2', manifest, geometry: info, onClosed: quietly(place.close, log) })
  } catch (error) {
    await quietly(place.close, log)()
    throw error
  }
}

/** Of two caps in bytes a second, of which each may be absent. */
export function smaller(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined ? other : Math.min(one, other ?? one)
}

/** What cannot be tidied up is said, and no reason to end a deployment. */
function quietly(close: (() => Promise<void>) | undefined, log: Log): () => Promise<void> {
  return async () => {
    await close?.().catch((error: unknown) => log.failure('what the engine stood on could not be closed', error))
  }
}

/** Only a torrent of the image that is meant will do: what it verifies is passed on to others. */
async function fetchTorrent({ order, manifest, origin }: EngineWork, signal: AbortSignal) {
  const { torrentUrl: url, infoHash } = order
  const either = AbortSignal.any([signal, AbortSignal.timeout(torrentMsMax)])
  const bytes = await origin.fetchDocument(`the torrent ${url}`, url, torrentBytesMax, either)
  let torrent: ReturnType<typeof parseTorrent>
  try {
    torrent = parseTorrent(bytes)
  } catch (cause) {
    throw new Failure('origin-error', `the torrent ${url} cannot be read`, { cause })
  }
  if (torrent.infoHash !== infoHash) {
    throw new Failure('origin-error', `the torrent ${url} has the info-hash ${torrent.infoHash}, not ${infoHash}`)
  }
  if (torrent.info.totalBytes !== manifest.storedBytes) {
    const { totalBytes } = torrent.info
    throw new Failure('origin-error', `the torrent ${url} is of ${totalBytes} bytes, not ${manifest.storedBytes}`)
  }
  return torrent
}

/** Room on the disk for what memory cannot hold; undefined when that is nothing, or there is no room. */
async function openSpill({ manifest, spillTo, budgetBytes, log }: EngineWork, pieceBytes: number) {
  if (spillTo === undefined || manifest.storedBytes <= budgetBytes) return undefined
  const { disk, range } = spillTo
  const spill: SpillDisk = await openSpillDisk(disk, range, pieceBytes)
  log.line(
    `pieces beyond ${budgetBytes} bytes of memory go to ${disk.path}, ${range.length} bytes from ${range.offset}`,
  )
  return spill
}
