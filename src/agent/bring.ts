// Brings one image to one place and proves it there: its bytes as they are, all but the first MiB, which waits until every
// image is proven; or its files, unpacked into a file system.
import type { TransferCounts } from '../contract/types.ts'
import type { ImageOrder } from '../contract/work-types.ts'
import { alignedBuffers } from '../lib/aligned-buffers.ts'
import type { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'
import type { Manifest } from '../model/image.ts'
import type { RedeployMode } from '../model/layout.ts'
import { type Compared, compareFrames } from './compare.ts'
import { type OpenDisk, openDisk } from './disk.ts'
import { openSource } from './engine.ts'
import type { FileSystems } from './file-systems.ts'
import type { ArrivedFrame, FrameSource } from './frame-source.ts'
import type { Log } from './log.ts'
import type { Origin } from './origin.ts'
import { OriginBlocks } from './origin-blocks.ts'
import type { Place } from './place.ts'
import { headBytesMax } from './plan.ts'
import { judgeSample, sampleFrames } from './redeploy.ts'
import type { Reporter } from './report.ts'
import { addCounts, countsOfOrigin } from './source-counts.ts'
import type { SpillPlace } from './spill-disk.ts'
import { unpack } from './unpack.ts'
import { readBack } from './verify.ts'
import { type Buffers, inflate, type TransferProgress, tailOf, transfer, wipe, wipeEnds } from './write.ts'

export type Bringing = {
  readonly place: Place
  readonly order: ImageOrder
  readonly manifest: Manifest
  readonly spillTo: SpillPlace | undefined
  /** Those being made: an image that is unpacked waits for the ones it is unpacked into. */
  readonly fileSystems: FileSystems
  readonly origin: Origin
  /** Shared by all images; the first MiB of each has its own. */
  readonly buffers: Buffers
  readonly lanes: number
  readonly budgetBytes: number
  readonly listen: { readonly host: string; readonly port: number }
  readonly sessionKey: Secret
  readonly client: string
  readonly log: Log
  readonly reporter: Reporter
  /** Whether what the place holds is compared first. */
  readonly redeploy: RedeployMode
  /** Undefined: nobody knows. */
  readonly networkBytesPerSecond: number | undefined
  /** Disk bytes of the images before this one, and of all: a host has one progress. */
  readonly before: { readonly doneBytes: number; readonly totalBytes: number }
}

/** An image that is coming or has come. Must be closed. */
export class Brought {
  readonly work: Bringing
  readonly source: FrameSource
  readonly head: Buffer
  #progress: TransferProgress = { doneBytes: 0, writtenBytes: 0, durableBytes: 0, besideBytes: 0 }
  #disk: OpenDisk | undefined
  /** What the place held before anything was fetched; undefined: it was not compared. */
  #compared: Compared | undefined
  /** Undefined where single blocks are not to be had. */
  readonly #blocks: OriginBlocks | undefined
  bytes = { bytesWritten: 0, bytesZeroed: 0, bytesKept: 0, bytesReadBack: 0 }

  constructor(work: Bringing) {
    this.work = work
    const { order, manifest, origin, log } = work
    const [head] = alignedBuffers(1, headBytesMax)
    if (head === undefined) throw new Error('alignedBuffers gave fewer than asked for')
    this.head = head
    const { framesUrl } = order.transfer
    this.#blocks = framesUrl === undefined ? undefined : new OriginBlocks({ origin, framesUrl, manifest, log })
    this.source = openSource({
      order: order.transfer,
      imageUrl: order.imageUrl,
      manifest,
      origin,
      spillTo: work.spillTo,
      connections: work.lanes,
      budgetBytes: work.budgetBytes,
      listen: work.listen,
      sessionKey: work.sessionKey,
      client: work.client,
      log,
      isWanted: (number) => !this.#compared?.kept.has(number) && !this.#compared?.mendable.has(number),
      onFellBack: (text) => work.reporter.event('engine-fell-back', text),
    })
  }

  get buffers(): Buffers {
    return { ...this.work.buffers, head: this.head }
  }

  /** Its bytes lie in the place as they are, and its first MiB waits in `head`. */
  get isWithheld(): boolean {
    return this.work.place.content.kind === 'image'
  }

  /** The place, opened and claimed. */
  get disk(): OpenDisk {
    if (this.#disk === undefined) throw new Error(`${this.work.place.name} is not open`)
    return this.#disk
  }

  /** What the source says, what the origin was asked for beside it, and what of it is on the disk. */
  counts(): TransferCounts {
    const { engine, ...counts } = this.source.counts()
    const { writtenBytes, durableBytes, besideBytes } = this.#progress
    const { sources, uploads, ...sum } = addCounts(counts, countsOfOrigin(besideBytes))
    return { engine, ...sum, writtenBytes, durableBytes, sources: [...sources], uploads: [...uploads] }
  }

  /** Resolves when all of it is proven, but for the first MiB where that is withheld. */
  async bring(signal: AbortSignal): Promise<void> {
    await (this.isWithheld ? this.#write(signal) : this.#unpack(signal))
  }

  async #unpack(signal: AbortSignal): Promise<void> {
    const { place, order, manifest, origin, log, reporter, before, fileSystems } = this.work
    const { imageUrl } = order
    let refetchedBytes = 0
    const refetch = async (number: number) => {
      const { offset, length } = manifest.frames[number] ?? { offset: 0, length: 0 }
      const bytes = Buffer.allocUnsafeSlow(length)
      await origin.fetchRange(imageUrl, offset, manifest.storedBytes, bytes, signal)
      refetchedBytes += length
      return bytes
    }
    let writtenBytes = 0
    const inflated = async (frame: ArrivedFrame, signal: AbortSignal) => {
      const bytes = await inflate({ imageUrl, manifest, log }, frame, refetch, signal)
      writtenBytes += manifest.frames[frame.number]?.length ?? 0
      return bytes
    }
    reporter.begin('transfer', before.totalBytes, before.doneBytes)
    // Its own and those that are mounted below it.
    await fileSystems.all()
    const bytesReadBack = await unpack(
      {
        place,
        places: fileSystems.places(),
        manifest,
        source: this.source,
        inflate: inflated,
        onUnpacked: (doneBytes) => {
          this.#progress = { doneBytes, writtenBytes, durableBytes: 0, besideBytes: refetchedBytes }
          reporter.progress(before.doneBytes + doneBytes)
        },
        onVerifying: () => {
          this.#progress = { ...this.#progress, durableBytes: writtenBytes }
          reporter.begin('verify', before.totalBytes, before.doneBytes)
        },
        onVerified: (doneBytes) => reporter.progress(before.doneBytes + doneBytes),
      },
      signal,
    )
    this.bytes = { bytesWritten: manifest.sizeBytes, bytesZeroed: 0, bytesKept: 0, bytesReadBack }
  }

  async #write(signal: AbortSignal): Promise<void> {
    const { place, order, manifest, origin, log, reporter, before } = this.work
    const { path } = place.device
    await this.#open(signal)
    const { disk, buffers } = this
    if (!disk.isDirect) log.line(`${path} takes no direct I/O: what is read back may come from memory`)
    const onProgress = (progress: TransferProgress) => {
      this.#progress = progress
      reporter.progress(before.doneBytes + progress.doneBytes)
    }
    reporter.begin('transfer', before.totalBytes, before.doneBytes)
    const { imageUrl } = order
    const from = { source: this.source, blocks: this.#blocks, origin, imageUrl }
    const written = await transfer(
      { ...from, manifest, disk, buffers, log, compared: this.#compared, onProgress },
      signal,
    )
    reporter.begin('verify', before.totalBytes, before.doneBytes)
    const onRead = (doneBytes: number) => reporter.progress(before.doneBytes + doneBytes)
    const bytesReadBack = await readBack({ disk, manifest, buffers, onProgress: onRead }, signal)
    this.bytes = { ...written, bytesReadBack }
  }

  /** Claims the place, finds what it holds already where that is wanted or pays, and wipes what still boots. */
  async #open(signal: AbortSignal): Promise<void> {
    const { place, redeploy } = this.work
    const { device } = place
    this.#disk = await openDisk(device.path, device.sectorBytes)
    if (redeploy === 'full' || (redeploy === 'auto' && !(await this.#pays(this.#disk, signal)))) {
      if (place.holds !== 'old') return
      await this.#disk.close()
      await wipe(device, this.buffers.zeros, signal)
      this.#disk = await openDisk(device.path, device.sectorBytes)
      return
    }
    this.#compared = await this.#compare(this.#disk, signal)
    // Signatures elsewhere are not looked for: what is kept there is the image's own.
    if (place.holds === 'old') await wipeEnds(this.#disk, device.sizeBytes, this.buffers.zeros)
  }

  async #pays(disk: OpenDisk, signal: AbortSignal): Promise<boolean> {
    const { place, manifest, networkBytesPerSecond, reporter } = this.work
    const rotational = place.disk?.rotational ?? false
    const sample = await sampleFrames({ disk, manifest, buffers: this.buffers, blocks: this.#blocks }, signal)
    const { isDifference, text } = judgeSample(manifest, sample, { rotational, networkBytesPerSecond })
    await reporter.event('redeploy-decided', text)
    return isDifference
  }

  async #compare(disk: OpenDisk, signal: AbortSignal): Promise<Compared> {
    const { place, manifest, reporter, before } = this.work
    reporter.begin('compare', before.totalBytes, before.doneBytes)
    const onProgress = (doneBytes: number) => reporter.progress(before.doneBytes + doneBytes)
    const untilBytes = place.holds === 'old' ? tailOf(place.device.sizeBytes) : Number.POSITIVE_INFINITY
    const work = { disk, manifest, buffers: this.buffers, untilBytes, blocks: this.#blocks, onProgress }
    const compared = await compareFrames(work, signal)
    const { kept, mendable } = compared
    const most = mendable.size === 0 ? '' : `, ${mendable.size} more but for some blocks`
    await reporter.event('compared', `${kept.size} of ${manifest.frames.length} frames are here already${most}`)
    return compared
  }

  async close(): Promise<void> {
    await this.#disk?.close()
    await this.source.close()
  }
}

/** The sum of what several images' transfers say; the engine is that of the last. */
export function sumCounts(brought: readonly Brought[]): TransferCounts {
  const [first, ...more] = brought.map((one) => one.counts())
  if (first === undefined) throw new Failure('internal', 'no image was brought')
  return more.reduce((sum, next) => {
    const { engine, writtenBytes, durableBytes, ...counts } = next
    const { sources, uploads, ...added } = addCounts(sum, counts)
    return {
      ...added,
      engine,
      writtenBytes: sum.writtenBytes + writtenBytes,
      durableBytes: sum.durableBytes + durableBytes,
      sources: [...sources],
      uploads: [...uploads],
    }
  }, first)
}
