import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import { expect, onTestFinished, test } from 'vitest'
import { testFolder } from '../image/testing.ts'
import { until } from '../lib/until.ts'
import { pieceCount, pieceLength } from '../model/swarm.ts'
import { PieceStore } from './piece-store.ts'
import { type SpillArea, spillAreaOfFile } from './spill-area.ts'

const pieceBytes = 1024
const geometry = { totalBytes: 39 * pieceBytes + 100, pieceBytes }
const pieces = pieceCount(geometry)
const budgetBytes = 8 * pieceBytes

function bytesOf(piece: number): Buffer {
  return Buffer.alloc(pieceLength(geometry, piece), `piece ${piece} `)
}

/** A store whose owner's words are noted; `wanted` is what neighbours lack. */
function makeStore(spillArea?: SpillArea) {
  const wanted = new Set<number>()
  const dropped: number[] = []
  const spillFailures: string[] = []
  let rooms = 0
  const store = new PieceStore({
    geometry,
    budgetBytes,
    spillArea,
    owner: {
      stillWanted: (piece) => wanted.has(piece),
      onDropped: (piece) => dropped.push(piece),
      onRoom: () => (rooms += 1),
      onSpillFailed: (error) => spillFailures.push(error.message),
    },
  })
  const put = (...all: number[]) => all.map((piece) => store.put(piece, bytesOf(piece)))
  const write = (...all: number[]) => {
    for (const piece of all) store.written(piece)
  }
  const here = () => Array.from({ length: pieces }, (_, piece) => piece).filter((piece) => store.has(piece))
  return { store, wanted, dropped, spillFailures, rooms: () => rooms, put, write, here }
}

/** A file of so many pieces for spilling; `fail` is asked before every access. */
async function makeArea(slots: number, fail: (what: 'read' | 'write') => boolean = () => false) {
  const handle = await open(join(testFolder(), 'spill'), 'w+')
  onTestFinished(() => handle.close())
  // Slots begin at multiples of 4096, whatever the size of a piece.
  const file = spillAreaOfFile(handle, { from: 4096, to: 4096 * (slots + 1) })
  const check = (what: 'read' | 'write') => {
    if (fail(what)) throw Object.assign(new Error(`${what} EIO`), { code: 'EIO' })
  }
  let writing = 0
  const area: SpillArea = {
    sizeBytes: file.sizeBytes,
    write: async (bytes, at) => {
      writing += 1
      try {
        check('write')
        await file.write(bytes, at)
      } finally {
        writing -= 1
      }
    },
    read: async (into, at) => {
      check('read')
      await file.read(into, at)
    },
  }
  const settled = () => until('nothing is being spilled', () => writing === 0, { timeoutMs: 5000, everyMs: 1 })
  return { area, settled }
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, index) => from + index)
}

test('what fits in memory stays there, used or not', async () => {
  const { store, put, write, here, dropped } = makeStore()
  expect(put(...range(0, 7))).not.toContain(false)
  write(...range(0, 7))
  expect(here()).toEqual(range(0, 7))
  expect(dropped).toEqual([])
  expect(store.read(3)).toEqual(bytesOf(3))
  expect(store.bitfield()).toEqual(Buffer.from([0xfe, 0, 0, 0, 0]))
})

test('what nobody has a use for makes room for what comes, and its owner hears of it', async () => {
  const { store, put, write, here, dropped } = makeStore()
  for (const piece of range(0, pieces)) {
    put(piece)
    write(piece)
    expect(store.counters().ramBytes).toBeLessThanOrEqual(budgetBytes)
  }
  expect(here().slice(-6)).toEqual(range(pieces - 6, pieces))
  expect(dropped.toSorted((a, b) => a - b)).toEqual(range(0, pieces).filter((piece) => !here().includes(piece)))
  expect(store.counters().droppedPieces).toBe(dropped.length)
  await expect(store.read(0)).rejects.toThrow('piece 0 is not here')
})

test('no more is asked for when the disk is behind, and again when it has caught up', () => {
  const { store, put, write, rooms } = makeStore()
  expect([store.room(), store.roomBytes]).toEqual([true, 4 * pieceBytes])
  put(0, 1, 2)
  expect([store.room(), store.roomBytes]).toEqual([true, pieceBytes])
  put(3)
  expect([store.room(), store.roomBytes]).toEqual([false, 0])
  write(0)
  expect(store.room()).toBe(false)
  write(1)
  expect([store.room(), store.roomBytes, rooms()]).toEqual([true, 2 * pieceBytes, 1])
})

test('more than fits is not taken, and nothing unwritten makes way for it', () => {
  const { put, here, dropped } = makeStore()
  expect(put(...range(0, 8))).not.toContain(false)
  expect(put(8)).toEqual([false])
  expect(put(7)).toEqual([true])
  expect(here()).toEqual(range(0, 8))
  expect(dropped).toEqual([])
})

test('what neighbours lack is spilled, and read back from there', async () => {
  const { area, settled } = await makeArea(100)
  const { store, wanted, put, write, here, dropped } = makeStore(area)
  for (const piece of range(0, pieces)) {
    wanted.add(piece)
    put(piece)
    write(piece)
    await settled()
  }
  expect(dropped).toEqual([])
  expect(here()).toEqual(range(0, pieces))
  for (const piece of here()) expect(await store.read(piece)).toEqual(bytesOf(piece))
  const { ramBytes, spilledBytes, readsFromSpill } = store.counters()
  expect(ramBytes + spilledBytes).toBe(geometry.totalBytes)
  expect(readsFromSpill).toBe(Math.floor(spilledBytes / pieceBytes))
  expect(readsFromSpill).toBeGreaterThan(30)
})

test('a full spill area makes room of what nobody wants any more', async () => {
  const { area, settled } = await makeArea(4)
  const { store, wanted, put, write, here } = makeStore(area)
  for (const piece of range(0, 30)) {
    wanted.add(piece)
    wanted.delete(piece - 10)
    put(piece)
    write(piece)
    await settled()
  }
  expect(here()).toEqual(expect.arrayContaining(range(22, 30)))
  for (const piece of here()) expect(await store.read(piece)).toEqual(bytesOf(piece))
})

test('a spill area that fails is said once and costs nothing that is in memory', async () => {
  let writes = 0
  const { area, settled } = await makeArea(100, (what) => what === 'write' && ++writes > 1)
  const { store, put, here, dropped, spillFailures } = makeStore(area)
  put(...range(0, 8))
  await settled()
  expect(spillFailures).toEqual([expect.stringMatching(/^spill piece \d+, 1024 bytes$/)])
  expect(here()).toEqual(range(0, 8))
  for (const piece of here()) expect(await store.read(piece)).toEqual(bytesOf(piece))
  expect(dropped).toEqual([])
  put(8)
  await settled()
  expect(spillFailures).toHaveLength(1)
})

test('a piece that the spill area has lost is said to be gone', async () => {
  let isBroken = false
  const { area, settled } = await makeArea(100, (what) => what === 'read' && isBroken)
  const { store, put, here, dropped } = makeStore(area)
  put(...range(0, 8))
  await settled()
  const whole = here().map((piece) => store.read(piece))
  await Promise.all(whole.map((bytes) => Promise.resolve(bytes)))
  const lost = whole.findIndex((bytes) => bytes instanceof Promise)
  isBroken = true
  const reads = await Promise.allSettled([store.read(lost), store.read(lost)])
  expect(reads.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  expect(dropped.filter((piece) => piece === lost)).toEqual([lost])
  expect(store.has(lost)).toBe(false)
  // It can be got again.
  expect(put(lost)).toEqual([true])
  expect(await store.read(lost)).toEqual(bytesOf(lost))
})

test('a range is one view of a piece, or a copy over several', async () => {
  const { area, settled } = await makeArea(100)
  const { store, put } = makeStore(area)
  put(...range(33, pieces))
  await settled()
  const whole = Buffer.concat(range(0, pieces).map(bytesOf))
  for (const [offset, length] of [
    [33 * pieceBytes, pieceBytes],
    [34 * pieceBytes + 5, 17],
    [33 * pieceBytes + 1000, 2048],
    [35 * pieceBytes - 1, 2],
    [34 * pieceBytes, 5 * pieceBytes + 100],
  ] as const) {
    expect(await store.readRange(offset, length)).toEqual(whole.subarray(offset, offset + length))
  }
  await expect(store.readRange(32 * pieceBytes, 2 * pieceBytes)).rejects.toThrow('piece 32 is not here')
})

test('a piece of the wrong length is refused', () => {
  const { store } = makeStore()
  expect(() => store.put(0, Buffer.alloc(5))).toThrow('piece 0 of 40 has 1024 bytes and not 5')
  expect(() => store.put(40, Buffer.alloc(pieceBytes))).toThrow(RangeError)
})

const piece = fc.nat(pieces - 1)
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('put' as const), piece }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('written' as const), piece }) },
  fc.record({ do: fc.constantFrom('wanted' as const, 'unwanted' as const, 'read' as const), piece }),
  fc.record({ do: fc.constant('wait' as const), piece: fc.constant(0) }),
)

test('whatever comes in whatever order: nothing unwritten is lost, memory keeps its bound, what is here can be read', async () => {
  const world = fc.record({
    steps: fc.array(step, { maxLength: 150, size: 'max' }),
    slots: fc.constantFrom(0, 2, 5, 100),
    failAfter: fc.constantFrom(3, 10, 1000),
  })
  await fc.assert(
    fc.asyncProperty(world, async ({ steps, slots, failAfter }) => {
      const memory = Buffer.alloc(4096 * slots)
      let writes = 0
      const { store, wanted, dropped, spillFailures, here } = makeStore({
        sizeBytes: memory.length,
        write: async (bytes, at) => {
          await setImmediate()
          if (++writes > failAfter) throw new Error('EIO')
          bytes.copy(memory, at)
        },
        read: async (into, at) => {
          await setImmediate()
          memory.copy(into, 0, at)
        },
      })
      const taken = new Set<number>()
      const written = new Set<number>()
      const reads: Promise<void>[] = []
      const look = () => {
        for (const gone of dropped.splice(0)) {
          expect(written).toContain(gone)
          taken.delete(gone)
        }
        expect(here()).toEqual([...taken].toSorted((a, b) => a - b))
        expect(store.counters().ramBytes).toBeLessThanOrEqual(budgetBytes)
      }
      for (const { do: what, piece } of steps) {
        if (what === 'put' && store.put(piece, bytesOf(piece))) taken.add(piece)
        if (what === 'written' && taken.has(piece)) {
          store.written(piece)
          written.add(piece)
        }
        if (what === 'wanted') wanted.add(piece)
        if (what === 'unwanted') wanted.delete(piece)
        if (what === 'read' && store.has(piece)) {
          const read = Promise.resolve(store.read(piece))
          reads.push(read.then((bytes) => expect(bytes.equals(bytesOf(piece))).toBe(true)))
        }
        if (what === 'wait') await setImmediate()
        look()
      }
      await Promise.all(reads)
      await store.close()
      look()
      for (const piece of here()) expect(await store.read(piece)).toEqual(bytesOf(piece))
      const { ramBytes, spilledBytes } = store.counters()
      expect(ramBytes + spilledBytes).toBe(here().reduce((sum, piece) => sum + pieceLength(geometry, piece), 0))
      expect(spillFailures.length).toBe(writes > failAfter ? 1 : 0)
    }),
    { numRuns: 300 },
  )
})
