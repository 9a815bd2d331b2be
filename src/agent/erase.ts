// Erases a whole disk before anything is written to it: by discarding, by zeros, or by the device's own secure erase. What
// counts is what reads back: places are read before and after, and an erase that left one of them as it was has failed.
import { randomInt } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { execa } from 'execa'
import { alignedBuffers } from '../lib/aligned-buffers.ts'
import { describe } from '../model/choose-disk.ts'
import { Failure } from '../model/failure.ts'
import type { EraseMethod } from '../model/layout.ts'
import { openDisk } from './disk.ts'
import { ataSecureErase } from './erase-ata.ts'
import { type Means, notOffered } from './erase-means.ts'
import { nvmeSecureErase } from './erase-nvme.ts'
import type { SeenDisk } from './inventory.ts'
import { together } from './lanes.ts'

export type Erasing = {
  readonly disk: SeenDisk
  readonly method: Exclude<EraseMethod, 'none'>
  /** Stays zero. */
  readonly zeros: Buffer
  /** A line for the timeline. */
  readonly tell: (kind: string, text: string) => Promise<unknown>
  /** Bytes of the disk that are erased. */
  readonly onProgress: (doneBytes: number) => void
}

export type Erasure = { readonly text: string; readonly seconds: number }

/** A step that can be seen and stopped. */
const zeroStepBytes = 256 * 1024 * 1024
const discardStepBytes = 16 * 1024 * 1024 * 1024
const discardTimeoutMs = 300_000

/** The slowest disk that is not broken; and what every disk is given. */
const bytesPerSecondMin = 10_000_000
const deadlineMsMin = 600_000

const sampledPlaces = 128
const sampleBytes = 4096

/**
 * Erases the disk and proves it. Gives what was done, in words for the record. Throws Failure `bad-input` when the disk does not
 * offer the method, with what it offers; `disk-error` when it fails, takes too long, or a place reads as it did before.
 */
export async function eraseDisk(work: Erasing, signal: AbortSignal): Promise<Erasure> {
  const { disk, method } = work
  const means = await meansOf(work, signal)
  const places = placesOf(disk)
  const before = await readPlaces(disk, places)
  await work.tell('erasing', `${describe(disk)} by ${means.words}`)
  const beganMs = performance.now()
  await runWatched(work, means, signal)
  const seconds = Math.round((performance.now() - beganMs) / 100) / 10
  const after = await readPlaces(disk, places)
  const left = places.find((_, at) => !isErased(method, before[at] ?? work.zeros, after[at] ?? work.zeros))
  if (left !== undefined) {
    const what = method === 'zero' ? 'does not read as zeros' : 'reads as before'
    throw new Failure('disk-error', `${disk.path} was erased by ${means.words}, and offset ${left} ${what}`)
  }
  const held = before.filter((bytes) => !isAllZero(bytes)).length
  const zero = after.filter(isAllZero).length
  const text =
    `${disk.path} by ${means.words}: of ${places.length} places read, ${held} held something before; ` +
    `${zero} read as zeros now${zero === places.length ? '' : ', none of the others as before'}`
  await work.tell('erased', text)
  return { text, seconds }
}

/** Erased is what reads as zeros; where the device erases by changing its key, what reads as other than it was. */
function isErased(method: EraseMethod, before: Buffer, after: Buffer): boolean {
  return isAllZero(after) || (method !== 'zero' && !after.equals(before))
}

function isAllZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0)
}

/** Runs the means until its deadline, and tells the progress that the device tells. */
async function runWatched({ disk, onProgress }: Erasing, means: Means, signal: AbortSignal): Promise<void> {
  const done = new AbortController()
  const late = new Failure(
    'disk-error',
    `${means.words} of ${disk.path} has not ended after ${means.deadlineMs / 60_000} min`,
  )
  await together(signal, [
    async (signal) => {
      try {
        await means.run((part) => onProgress(Math.floor(part * disk.sizeBytes)), signal)
      } finally {
        done.abort()
      }
    },
    async (signal) => {
      const ended = await delay(means.deadlineMs, false, { signal: AbortSignal.any([signal, done.signal]) }).catch(
        () => true,
      )
      if (!ended) throw late
    },
  ])
  onProgress(disk.sizeBytes)
}

async function meansOf(work: Erasing, signal: AbortSignal): Promise<Means> {
  switch (work.method) {
    case 'zero':
      return zeroMeans(work)
    case 'discard':
      return await discardMeans(work.disk)
    case 'secure':
      return await secureMeans(work.disk, signal)
  }
}

function deadlineOf({ sizeBytes }: SeenDisk): number {
  return deadlineMsMin + (sizeBytes * 1000) / bytesPerSecondMin
}

function zeroMeans({ disk, zeros }: Erasing): Means {
  return {
    words: 'zeros',
    deadlineMs: deadlineOf(disk),
    run: async (onProgress, signal) => {
      const opened = await openDisk(disk.path, disk.sectorBytes)
      try {
        for (let at = 0; at < disk.sizeBytes; at += zeroStepBytes) {
          signal.throwIfAborted()
          const length = Math.min(zeroStepBytes, disk.sizeBytes - at)
          await opened.zero(at, length, zeros, signal)
          onProgress((at + length) / disk.sizeBytes)
        }
        await opened.flush()
      } finally {
        await opened.close()
      }
    },
  }
}

async function discardMeans(disk: SeenDisk): Promise<Means> {
  const queue = `/sys/block/${basename(disk.path)}/queue/discard_max_bytes`
  const text = await readFile(queue, 'utf8').catch((cause: unknown) => {
    throw new Failure('disk-error', `look whether ${disk.path} can discard`, { cause })
  })
  if (Number(text) === 0) throw notOffered(disk, 'discard', 'it cannot discard')
  return {
    words: 'discard',
    deadlineMs: deadlineOf(disk),
    run: async (onProgress, signal) => {
      for (let at = 0; at < disk.sizeBytes; at += discardStepBytes) {
        const length = Math.min(discardStepBytes, disk.sizeBytes - at)
        const range = ['--offset', String(at), '--length', String(length)]
        const options = { cancelSignal: signal, timeout: discardTimeoutMs, stdin: 'ignore' } as const
        await execa('blkdiscard', ['--force', ...range, disk.path], options).catch((cause: unknown) => {
          signal.throwIfAborted()
          throw new Failure('disk-error', `discard ${length} bytes at offset ${at} of ${disk.path}`, { cause })
        })
        onProgress((at + length) / disk.sizeBytes)
      }
    },
  }
}

/** The device's own command. There is no falling back: who asks for a secure erase must not get zeros and believe. */
async function secureMeans(disk: SeenDisk, signal: AbortSignal): Promise<Means> {
  const { path, transport } = disk
  if (/^\/dev\/nvme\d+n\d+$/.test(path)) return await nvmeSecureErase(disk, signal)
  if (transport === 'sata' || transport === 'ata') return await ataSecureErase(disk, signal)
  throw notOffered(disk, 'secure', `a disk on ${transport ?? 'this bus'} has no secure erase that HaDeS can ask for`)
}

/** Where it is read before and after: both ends, and between them at random. */
function placesOf({ sizeBytes }: SeenDisk): number[] {
  const blocks = Math.floor(sizeBytes / sampleBytes)
  const ends = [0, 1, 256, blocks - 256, blocks - 2, blocks - 1]
  const random = Array.from({ length: sampledPlaces }, () => randomInt(blocks))
  const known = new Set([...ends, ...random].filter((block) => block >= 0 && block < blocks))
  return [...known].sort((a, b) => a - b).map((block) => block * sampleBytes)
}

async function readPlaces(disk: SeenDisk, places: readonly number[]): Promise<Buffer[]> {
  const [slot] = alignedBuffers(1, sampleBytes)
  if (slot === undefined) throw new Error('alignedBuffers gave fewer than asked for')
  const opened = await openDisk(disk.path, disk.sectorBytes)
  try {
    const read: Buffer[] = []
    for (const offset of places) {
      await opened.read(slot, sampleBytes, offset)
      read.push(Buffer.from(slot))
    }
    return read
  } finally {
    await opened.close()
  }
}
