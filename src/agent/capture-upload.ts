// Brings the frames of a disk to the service, in order. Where to go on the service says each time, from its row; what it has
// is compared with what the disk holds, so that no image is put together of two states of a disk.
import { type Agent, request } from 'node:http'
import { request as tlsRequest } from 'node:https'
import { setTimeout as delay } from 'node:timers/promises'
import { agentFor, type Trust } from '../client/trust.ts'
import { frameHeaders, framePath } from '../contract/capture-types.ts'
import { failureBody, fromFailureBody } from '../contract/failure-body.ts'
import { compressFrame, sha256Of } from '../image/frames.ts'
import type { FreeMap } from '../image/free-map.ts'
import { alignedBuffers } from '../lib/aligned-buffers.ts'
import { compileCheck } from '../lib/schema.ts'
import type { Secret } from '../lib/secret.ts'
import { emptyChain, lengthenChain, zeroFramesMax } from '../model/capture.ts'
import { Failure } from '../model/failure.ts'
import { frameSizeBytes } from '../model/image.ts'
import { readFrame } from './capture-free.ts'
import type { CaptureSource } from './capture-source.ts'
import { openDisk } from './disk.ts'
import type { Log } from './log.ts'
import { type ReportLimits, type ServiceClient, untilAnswered } from './report.ts'

export type Upload = {
  readonly source: CaptureSource
  /** What of the source is free: it is not read, and goes up as zeros. */
  readonly free: FreeMap | undefined
  readonly service: ServiceClient
  /** Base URL of the service. */
  readonly url: string
  /** By what the service is known, when that is https. */
  readonly trust?: Trust
  readonly sessionKey: Secret
  readonly deployment: number
  /** Frames read and compressed at once. */
  readonly lanes: number
  readonly log: Log
  readonly limits: ReportLimits
  readonly tell: (kind: string, text: string) => Promise<unknown>
  /** Of the disk, in the service's hands. */
  readonly onProgress: (doneBytes: number) => void
}

export type Uploaded = { readonly bytesRead: number; readonly bytesSent: number }

/** Refusals one after the other, without a frame taken in between, that end the upload. */
const refusalsMax = 5
/** One frame takes no longer than this; a slow line is seen by its not ending at all. */
const putMs = 120_000

/**
 * Resolves when the service has every frame. Throws Failure `disk-error` with the place that cannot be read, what the service
 * refuses (`library-full`, `image-too-large`, ...), or the reason of `signal`.
 */
export async function uploadDisk(upload: Upload, signal: AbortSignal): Promise<Uploaded> {
  const { source, free } = upload
  const connection = await agentFor(new URL(upload.url), upload.trust, { keepAlive: true, maxSockets: 1 })
  const disk = await openDisk(source.path, source.disk.sectorBytes, { readOnly: true })
  const reader: Reader = {
    sizeBytes: source.sizeBytes,
    slots: alignedBuffers(upload.lanes, frameSizeBytes),
    read: async (slot, frame) => {
      const { raw, bytesRead } = await readFrame(disk, { source, free }, slot, frame)
      reader.counts.bytesRead += bytesRead
      return raw
    },
    counts: { bytesRead: 0, bytesSent: 0 },
  }
  try {
    let known: Position = { frame: 0, chain: emptyChain }
    let refusals = 0
    for (;;) {
      known = await whereToGoOn(upload, reader, known, signal)
      if (known.frame === framesOf(reader)) return reader.counts
      const from = known.frame
      try {
        for await (const step of steps(reader, known, signal)) {
          await put(upload, connection, step, signal)
          reader.counts.bytesSent += step.body?.length ?? 0
          known = step.after
          upload.onProgress(Math.min(reader.sizeBytes, known.frame * frameSizeBytes))
        }
      } catch (error) {
        signal.throwIfAborted()
        refusals = known.frame > from ? 0 : refusals + 1
        await afterRefusal(upload, error, refusals, signal)
      }
    }
  } finally {
    connection.destroy()
    await disk.close()
  }
}

/** Returns when it is worth to ask where to go on; throws what cannot be mended. */
async function afterRefusal(upload: Upload, error: unknown, refusals: number, signal: AbortSignal): Promise<void> {
  if (!(error instanceof Failure)) throw error
  upload.log.failure('a frame was not taken', error)
  if (error.code === 'service-unreachable') {
    await delay(upload.limits.pauseMs, undefined, { signal })
    return
  }
  // An answer that was lost makes the next frame a repeated one; a frame can be damaged on its way.
  if (['wrong-state', 'bad-input'].includes(error.code) && refusals <= refusalsMax) return
  throw error
}

/** What the service has: all frames before `frame`, and their chain. */
type Position = { readonly frame: number; readonly chain: string }

/** One request, and where the service is when it has taken it. */
type Step = {
  readonly frame: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer | undefined
  readonly after: Position
}

type Reader = {
  readonly sizeBytes: number
  readonly slots: readonly Buffer[]
  /** Gives the bytes of a frame, in the slot. */
  readonly read: (slot: Buffer, frame: number) => Promise<Buffer>
  readonly counts: { bytesRead: number; bytesSent: number }
}

function framesOf({ sizeBytes }: Pick<Reader, 'sizeBytes'>): number {
  return Math.ceil(sizeBytes / frameSizeBytes)
}

async function whereToGoOn(upload: Upload, reader: Reader, known: Position, signal: AbortSignal): Promise<Position> {
  const { source, service, deployment, log, limits, tell } = upload
  const disk = { deployment, sizeBytes: source.sizeBytes, sectorBytes: source.disk.sectorBytes }
  const ask = (fromStart: boolean) =>
    untilAnswered('beginCapture', (signal) => service.beginCapture({ ...disk, fromStart }, { signal }), {
      log,
      limits,
      signal,
    })
  const { nextFrame, chain } = await ask(false)
  if (nextFrame === known.frame && chain === known.chain) return known
  if (nextFrame > 0) {
    await tell('capture-resumed', `the service has ${nextFrame} frames: comparing them with the disk`)
    // From what is known where that is before it: then only what was under way is read again.
    const from = nextFrame >= known.frame ? known : { frame: 0, chain: emptyChain }
    if ((await chainOf(reader, from, nextFrame, signal)) === chain) return { frame: nextFrame, chain }
  }
  const anew = nextFrame === 0 ? { nextFrame, chain } : await ask(true)
  upload.onProgress(0)
  return { frame: anew.nextFrame, chain: anew.chain }
}

/** The chain of the disk as it is now, up to frame `to`. */
async function chainOf(reader: Reader, from: Position, to: number, signal: AbortSignal): Promise<string> {
  let chain = from.chain
  const [slot] = reader.slots
  if (slot === undefined) throw new Error('an upload without a lane')
  for (let frame = from.frame; frame < to; frame++) {
    signal.throwIfAborted()
    chain = lengthenChain(chain, await sha256Of(await reader.read(slot, frame)))
  }
  return chain
}

/** All that is still to come, read and compressed a few frames ahead; zeros gathered to one request. */
async function* steps(reader: Reader, from: Position, signal: AbortSignal): AsyncGenerator<Step, void, void> {
  let at = from
  let zeros = 0
  const gathered = (): Step => ({
    frame: at.frame - zeros,
    headers: { [frameHeaders.zeroFrames]: String(zeros) },
    body: undefined,
    after: at,
  })
  for await (const { frame, compressed, rawSha256 } of readFrames(reader, from.frame, signal)) {
    if (compressed.class !== 'data') {
      at = { frame: frame + 1, chain: lengthenChain(at.chain, rawSha256) }
      zeros += 1
      if (zeros < zeroFramesMax) continue
    }
    if (zeros > 0) yield gathered()
    zeros = 0
    if (compressed.class !== 'data') continue
    at = { frame: frame + 1, chain: lengthenChain(at.chain, rawSha256) }
    const headers = { [frameHeaders.sha256]: compressed.sha256, [frameHeaders.rawSha256]: rawSha256 }
    yield { frame, headers, body: compressed.bytes, after: at }
  }
  if (zeros > 0) yield gathered()
}

async function* readFrames(reader: Reader, from: number, signal: AbortSignal) {
  const { slots } = reader
  const total = framesOf(reader)
  const readOne = async (frame: number, slot: Buffer) => {
    const raw = await reader.read(slot, frame)
    const compressed = await compressFrame(raw)
    const rawSha256 = compressed.class === 'data' ? compressed.rawSha256 : await zerosSha256(raw.length)
    return { frame, compressed, rawSha256 }
  }
  const inWork: ReturnType<typeof readOne>[] = []
  let next = from
  try {
    for (;;) {
      signal.throwIfAborted()
      // A slot is free again when its frame was given out: compressed bytes are a buffer of their own.
      while (inWork.length < slots.length && next < total) {
        const frame = readOne(next, slots[next % slots.length] as Buffer)
        frame.catch(() => {})
        inWork.push(frame)
        next += 1
      }
      const oldest = inWork.shift()
      if (oldest === undefined) return
      yield await oldest
    }
  } finally {
    await Promise.allSettled(inWork)
  }
}

const wholeZeros = sha256Of(Buffer.alloc(frameSizeBytes))

function zerosSha256(bytes: number): Promise<string> {
  return bytes === frameSizeBytes ? wholeZeros : sha256Of(Buffer.alloc(bytes))
}

const checkFailureBody = compileCheck(failureBody)

/** Sends one step. Throws the Failure that the service answered, or `service-unreachable`. */
async function put(upload: Upload, agent: Agent, { frame, headers, body }: Step, signal: AbortSignal): Promise<void> {
  const url = new URL(upload.url.replace(/\/$/, '') + framePath(upload.deployment, frame))
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>()
  const options = {
    method: 'PUT',
    agent,
    signal: AbortSignal.any([signal, AbortSignal.timeout(putMs)]),
    headers: {
      ...headers,
      authorization: `Bearer ${upload.sessionKey.reveal()}`,
      'content-type': 'application/octet-stream',
      'content-length': body?.length ?? 0,
    },
  }
  const sent = (url.protocol === 'https:' ? tlsRequest : request)(url, options, (answer) => {
    const chunks: Buffer[] = []
    answer.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      if (chunks.length > answerChunksMax) answer.destroy(new Error('the answer is too long'))
    })
    answer.once('error', reject)
    answer.once('end', () => resolve({ status: answer.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }))
  })
  sent.once('error', reject)
  sent.end(body)
  const where = `frame ${frame} at ${upload.url}`
  const { status, text } = await promise.catch((cause: unknown) => {
    throw new Failure('service-unreachable', `${where}: no answer`, { cause })
  })
  if (status === 200) return
  throw failureOf(text) ?? new Failure('service-unreachable', `${where} was answered with ${status}, not as HaDeS does`)
}

const answerChunksMax = 64

function failureOf(text: string): Failure | undefined {
  try {
    const value: unknown = JSON.parse(text)
    // Checked in this line.
    if (checkFailureBody(value).length === 0) return fromFailureBody(value as Parameters<typeof fromFailureBody>[0])
  } catch {
    // What is no JSON is not from us.
  }
  return undefined
}
