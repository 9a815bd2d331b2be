import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { pieceLength, type Route } from '../model/swarm.ts'
import { type Ask, Schedule } from './schedule.ts'

const geometry = { totalBytes: 1000 * 65_536 - 100, pieceBytes: 65_536 }
const web = 'http://origin/image.zst'

function route(sources: readonly (readonly string[])[], depth = sources.map((line) => line.length)): Route {
  const peers = (line: readonly string[]) => line.map((peerId) => ({ peerId, ip: '10.0.0.1', port: 1 }))
  return {
    version: 1,
    stripes: sources.length,
    stripePieces: 8,
    sources: sources.map(peers),
    depth,
    successors: [],
    far: [],
  }
}

function asked(asks: readonly Ask[], source: string): number[] {
  return asks.flatMap((ask) => (ask.kind === 'request' && ask.source === source ? ask.pieces : []))
}

function cancelled(asks: readonly Ask[], source: string): number[] {
  return asks.flatMap((ask) => (ask.kind === 'cancel' && ask.source === source ? ask.pieces : []))
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, index) => from + index)
}

/** A schedule with a web seed and these agents connected, in the order of the line. */
function scheduleOf(line: readonly string[]): Schedule {
  const schedule = new Schedule(geometry)
  schedule.addSource(web, 'web-seed', 0)
  for (const id of line) schedule.addSource(id, 'agent', 0)
  schedule.setRoute(route([line]), 0)
  return schedule
}

/** Delivers everything asked of the source, each piece at `now`. */
function deliver(schedule: Schedule, source: string, pieces: readonly number[], now: number): void {
  for (const piece of pieces) {
    schedule.heard(source, pieceLength(geometry, piece), now)
    if (schedule.arrived(source, piece, now)) schedule.verified(piece)
  }
}

describe('from a predecessor', () => {
  test('pieces are asked for in order, before it has them', () => {
    const schedule = scheduleOf(['a'])
    expect(asked(schedule.decide(0), 'a')).toEqual([0, 1, 2, 3])
  })

  test('what it has is asked for, however much is asked for that it will have', () => {
    const schedule = scheduleOf(['a'])
    expect(asked(schedule.decide(0), 'a')).toEqual([0, 1, 2, 3])
    // Its own pieces came to it in another order.
    schedule.sourceHas('a', range(10, 20))
    expect(asked(schedule.decide(10), 'a')).toEqual([10, 11, 12, 13])
    expect(asked(schedule.decide(20), 'a')).toEqual([])
  })

  test('each piece that comes opens the window by one more', () => {
    const schedule = scheduleOf(['a'])
    deliver(schedule, 'a', asked(schedule.decide(0), 'a'), 10)
    expect(asked(schedule.decide(10), 'a')).toEqual(range(4, 12))
  })

  test('what is outstanding follows the rate at which it delivers', () => {
    const schedule = scheduleOf(['a', 'b'])
    let outstanding = asked(schedule.decide(0), 'a')
    // One piece each 50 ms: 20 a second, so 16 in the window of 0.8 s, and one for the road.
    for (let now = 50; now < 10_000; now += 50) {
      deliver(schedule, 'a', outstanding.slice(0, 1), now)
      outstanding = [...outstanding.slice(1), ...asked(schedule.decide(now), 'a')]
    }
    expect(outstanding.length).toBeGreaterThanOrEqual(13)
    expect(outstanding.length).toBeLessThanOrEqual(18)
  })

  test('nothing is asked of the web seed or of its stand-ins while it delivers', () => {
    const schedule = scheduleOf(['a', 'b'])
    schedule.sourceHas('b', range(0, 1000))
    let outstanding: number[] = []
    for (let now = 0; now < 8000; now += 10) {
      const asks = schedule.decide(now)
      expect(asked(asks, 'b')).toEqual([])
      expect(asked(asks, web)).toEqual([])
      outstanding.push(...asked(asks, 'a'))
      deliver(schedule, 'a', outstanding.slice(0, 1), now)
      outstanding = outstanding.slice(1)
    }
  })
})

describe('when the predecessor fails', () => {
  test('and its connection ends, its own predecessor is asked at once for the same pieces', () => {
    const schedule = scheduleOf(['a', 'b'])
    schedule.decide(0)
    schedule.removeSource('a')
    expect(asked(schedule.decide(100), 'b')).toEqual([0, 1, 2, 3])
  })

  test('and no other is left, the web seed is asked', () => {
    const schedule = scheduleOf(['a'])
    schedule.decide(0)
    schedule.removeSource('a')
    expect(asked(schedule.decide(100), web).slice(0, 4)).toEqual([0, 1, 2, 3])
  })

  test('by silence, the next one that has the pieces is asked within a second', () => {
    const schedule = scheduleOf(['a', 'b'])
    schedule.decide(0)
    schedule.sourceHas('a', range(0, 1))
    schedule.sourceHas('b', range(0, 10))
    expect(asked(schedule.decide(600), 'b')).toEqual([])
    const asks = schedule.decide(800)
    expect(cancelled(asks, 'a')).toEqual([0, 1, 2, 3])
    expect(asked(asks, 'b')).toEqual([0, 1, 2, 3])
    expect(schedule.takeComplaints()).toEqual(['a'])
    // Told once: the tracker must not take one moment for a lasting state.
    expect(schedule.takeComplaints()).toEqual([])
  })

  test('by lacking what the next one has, it is left at once and blamed only when it has been the predecessor for a while', () => {
    const complaintsAt = (ms: number) => {
      const schedule = scheduleOf(['a', 'b'])
      const askedOfB: number[] = []
      for (let now = 0; now < ms + 2000; now += 100) {
        const asks = schedule.decide(now)
        askedOfB.push(...asked(asks, 'b'))
        if (now < ms) {
          schedule.sourceHas('a', [now / 100])
          deliver(schedule, 'a', [now / 100], now)
        } else schedule.sourceHas('b', range(0, 1000))
      }
      expect(askedOfB[0]).toBe(ms / 100)
      return schedule.takeComplaints()
    }
    expect(complaintsAt(1000)).toEqual([])
    expect(complaintsAt(6000)).toEqual(['a'])
  })

  test('by being behind, it is waited for as long as it gets on', () => {
    const schedule = scheduleOf(['a', 'b'])
    for (const piece of range(0, 100)) schedule.verified(piece)
    schedule.sourceHas('b', range(0, 200))
    const askedOfB: number[] = []
    for (let now = 0; now <= 5000; now += 100) {
      schedule.sourceHas('a', [now / 100])
      askedOfB.push(...asked(schedule.decide(now), 'b'))
    }
    expect(askedOfB).toEqual([])
    expect(schedule.takeComplaints()).toEqual([])
    for (let now = 5100; now <= 6500; now += 100) askedOfB.push(...asked(schedule.decide(now), 'b'))
    expect(askedOfB.slice(0, 4)).toEqual(range(100, 104))
  })

  test('by silence and nobody has more, the web seed is asked seconds later, the nearest to the head first', () => {
    const waits = [1, 2, 3].map((depth) => {
      const schedule = new Schedule(geometry)
      schedule.addSource(web, 'web-seed', 0)
      schedule.addSource('a', 'agent', 0)
      schedule.setRoute(route([['a']], [depth]), 0)
      for (let now = 0; ; now += 100) if (asked(schedule.decide(now), web).length > 0) return now
    })
    expect(waits).toEqual([2100, 4100, 6100])
  })

  test('to be connected to, the next one is asked when that has taken too long', () => {
    const schedule = new Schedule(geometry)
    schedule.addSource(web, 'web-seed', 0)
    schedule.addSource('b', 'agent', 0)
    schedule.setRoute(route([['a', 'b']]), 0)
    expect(schedule.decide(1000)).toEqual([])
    expect(asked(schedule.decide(1600), 'b')).toEqual([0, 1, 2, 3])
  })

  test('because it was behind, it is asked again soon after it has caught up', () => {
    const schedule = scheduleOf(['a', 'b'])
    schedule.sourceHas('b', range(0, 1000))
    const outstanding: number[] = []
    for (let now = 0; now <= 1000; now += 100) {
      const asks = schedule.decide(now)
      expect(asked(asks, 'a')).toEqual(now === 0 ? [0, 1, 2, 3] : [])
      outstanding.push(...asked(asks, 'b'))
      deliver(schedule, 'b', outstanding.splice(0, 2), now)
    }
    schedule.sourceHas('a', range(0, 1000))
    expect(asked(schedule.decide(1200), 'a').length).toBeGreaterThan(0)
  })

  test('and comes back to life, it is asked again', () => {
    const schedule = scheduleOf(['a', 'b'])
    schedule.sourceHas('b', range(0, 1000))
    const outstanding: number[] = []
    let isAskedAgain = false
    for (let now = 0; now < 10_000 && !isAskedAgain; now += 100) {
      const asks = schedule.decide(now)
      isAskedAgain = now > 1000 && asked(asks, 'a').length > 0
      outstanding.push(...asked(asks, 'b'))
      deliver(schedule, 'b', outstanding.splice(0, 2), now)
      if (now === 3000) schedule.sourceHas('a', range(0, 1000))
    }
    expect(isAskedAgain).toBe(true)
  })
})

describe('a slow predecessor', () => {
  /** `a` holds and delivers a piece each 500 ms; its own predecessor `b` gets one each 20 ms. */
  function run(nextDelivers: boolean) {
    const schedule = scheduleOf(['a', 'b'])
    const queue: Record<string, number[]> = { a: [], b: [] }
    let fromNext = 0
    const complained = new Set<string>()
    for (let now = 0; now < 20_000; now += 10) {
      if (now % 20 === 0) schedule.sourceHas('b', [now / 20])
      if (now % 500 === 0) schedule.sourceHas('a', [now / 500])
      for (const ask of schedule.decide(now)) {
        if (ask.kind === 'request') queue[ask.source]?.push(...ask.pieces)
        else queue[ask.source] = (queue[ask.source] ?? []).filter((piece) => !ask.pieces.includes(piece))
      }
      const { a = [], b = [] } = queue
      if (now % 500 === 0) deliver(schedule, 'a', a.splice(0, 1), now)
      if (nextDelivers && now % 20 === 0) {
        const pieces = b.splice(0, 1)
        fromNext += pieces.length
        deliver(schedule, 'b', pieces, now)
      }
      for (const id of schedule.takeComplaints()) complained.add(id)
    }
    return { fromNext, complained: [...complained], schedule }
  }

  test('is passed over for the one before it, and the tracker hears of it', () => {
    const { fromNext, complained } = run(true)
    expect(fromNext).toBeGreaterThan(600)
    expect(complained).toContain('a')
  })

  test('is asked again when passing it over brings nothing: our own link is the narrow one', () => {
    const { schedule } = run(false)
    expect(asked(schedule.decide(20_000), 'b')).toEqual([])
  })
})

describe('the head', () => {
  test('asks the web seed for long runs in order', () => {
    const schedule = scheduleOf([])
    const first = asked(schedule.decide(0), web)
    expect(first).toEqual(range(0, first.length))
    expect(first.length).toBeGreaterThanOrEqual(8)
  })

  test('of one of two stripes asks for the runs of its stripe', () => {
    const schedule = new Schedule(geometry)
    schedule.addSource(web, 'web-seed', 0)
    schedule.addSource('a', 'agent', 0)
    schedule.setRoute(route([['a'], []]), 0)
    const asks = schedule.decide(0)
    expect(asked(asks, web).slice(0, 9)).toEqual([8, 9, 10, 11, 12, 13, 14, 15, 24])
    expect(asked(asks, 'a')).toEqual([0, 1, 2, 3])
  })

  test('shares its questions among several web seeds', () => {
    const schedule = scheduleOf([])
    schedule.addSource('http://mirror/image.zst', 'web-seed', 0)
    expect(asked(schedule.decide(0), web).length).toBeGreaterThan(0)
    expect(asked(schedule.decide(10), 'http://mirror/image.zst').length).toBeGreaterThan(0)
  })
})

test('what a web seed has just refused is asked of a stranger that has it, and of the web seed only when nobody has', () => {
  const schedule = scheduleOf([])
  const first = asked(schedule.decide(0), web)
  schedule.addSource('s', 'stranger', 10)
  schedule.sourceHas('s', [0])
  for (const piece of first) schedule.refused(web, piece)
  const asks = schedule.decide(20)
  expect(asked(asks, 's')).toEqual([0])
  expect(asked(asks, web)).toContain(1)
  // It is well again as soon as anything comes from it.
  deliver(schedule, web, [1], 30)
  schedule.refused('s', 0)
  schedule.sourceHas('s', [0])
  expect(asked(schedule.decide(40), web)).toContain(0)
})

test('a piece with a wrong hash is asked for again, and never of the agent that sent it', () => {
  const schedule = scheduleOf(['a', 'b'])
  schedule.decide(0)
  expect(schedule.arrived('a', 0, 10)).toBe(true)
  schedule.corrupt('a', 0)
  // As long as the tracker names it.
  for (let time = 0; time < 2; time++) expect(schedule.takeComplaints()).toEqual(['a'])
  expect(schedule.isBanned('a')).toBe(true)
  expect(asked(schedule.decide(20), 'b')).toContain(0)
  schedule.setRoute(route([['a', 'b']]), 30)
  for (let now = 100; now < 5000; now += 100) expect(asked(schedule.decide(now), 'a')).toEqual([])
})

test('a piece that comes twice is used once, and the second question is taken back', () => {
  const schedule = scheduleOf(['a', 'b'])
  schedule.decide(0)
  schedule.sourceHas('b', range(0, 10))
  schedule.decide(800)
  expect(schedule.arrived('a', 0, 900)).toBe(true)
  expect(cancelled(schedule.decide(900), 'b')).toContain(0)
  expect(schedule.arrived('b', 0, 910)).toBe(false)
})

test('no more is asked for than there is room', () => {
  const schedule = scheduleOf([])
  schedule.setRoom(3)
  expect(asked(schedule.decide(0), web)).toEqual([0, 1, 2])
  expect(asked(schedule.decide(100), web)).toEqual([])
})

test('a new route moves the questions to the new predecessor once that is connected', () => {
  const schedule = scheduleOf(['a'])
  schedule.decide(0)
  schedule.setRoute(route([['b']]), 10)
  deliver(schedule, 'a', [0, 1], 20)
  expect(asked(schedule.decide(20), 'a')).toEqual([4, 5, 6, 7])
  schedule.addSource('b', 'agent', 30)
  deliver(schedule, 'a', [2, 3], 40)
  const asks = schedule.decide(40)
  expect(asked(asks, 'a')).toEqual([])
  expect(asked(asks, 'b')).toEqual([8, 9, 10, 11])
})

test('in every world of failing sources the image is complete in the end, as long as the web seed answers', () => {
  const behaviour = fc.constantFrom('good', 'silent', 'slow', 'refuses', 'dies', 'lies', 'absent')
  fc.assert(
    fc.property(
      fc.array(behaviour, { maxLength: 5 }),
      fc.array(behaviour, { maxLength: 5 }),
      fc.integer(),
      (first, second, seed) => {
        const small = { totalBytes: 60 * 65_536, pieceBytes: 65_536 }
        const schedule = new Schedule(small, { jitterMs: Math.abs(seed) % 1000 })
        const behaviours = new Map<string, string>()
        const lines = [first, second].map((line, stripe) =>
          line.map((kind, index) => {
            const id = `${stripe}.${index}`
            behaviours.set(id, kind)
            return id
          }),
        )
        schedule.addSource(web, 'web-seed', 0)
        behaviours.set(web, 'good')
        for (const [id, kind] of behaviours) if (kind !== 'absent' && id !== web) schedule.addSource(id, 'agent', 0)
        schedule.setRoute(route(lines), 0)
        const queues = new Map<string, number[]>()
        let now = 0
        for (; now < 300_000 && !schedule.isComplete; now += 50) {
          for (const ask of schedule.decide(now)) {
            const queue = queues.get(ask.source) ?? []
            queues.set(
              ask.source,
              ask.kind === 'request' ? [...queue, ...ask.pieces] : queue.filter((piece) => !ask.pieces.includes(piece)),
            )
          }
          for (const [id, queue] of queues) {
            const kind = behaviours.get(id)
            if (kind === 'silent' || queue.length === 0) continue
            if (kind === 'slow' && now % 2000 !== 0) continue
            if (kind === 'dies' && now > 1000) {
              schedule.removeSource(id)
              queues.delete(id)
              continue
            }
            const [piece = 0] = queue.splice(0, 1)
            if (kind === 'refuses') schedule.refused(id, piece)
            else {
              schedule.heard(id, 65_536, now)
              if (!schedule.arrived(id, piece, now)) continue
              if (kind === 'lies') schedule.corrupt(id, piece)
              else schedule.verified(piece)
            }
          }
        }
        expect(schedule.isComplete).toBe(true)
      },
    ),
    { numRuns: 300 },
  )
})

describe('when only some pieces are needed', () => {
  const wanted = new Set([...range(10, 14), ...range(500, 504)])
  const partOf = (line: readonly string[]) => {
    const schedule = new Schedule(geometry, { wanted })
    schedule.addSource(web, 'web-seed', 0)
    for (const id of line) schedule.addSource(id, 'agent', 0)
    schedule.setRoute(route([line]), 0)
    return schedule
  }

  test('no other is asked for, and with the last of them all is complete', () => {
    const schedule = partOf(['a'])
    const first = asked(schedule.decide(0), 'a')
    expect(first).toEqual(range(10, 14))
    deliver(schedule, 'a', first, 10)
    expect(schedule.isComplete).toBe(false)
    deliver(schedule, 'a', asked(schedule.decide(10), 'a'), 20)
    expect([schedule.isComplete, schedule.verifiedPieces]).toEqual([true, wanted.size])
    expect(schedule.decide(200)).toEqual([])
  })

  test('a piece that was not wanted and comes all the same changes nothing', () => {
    const schedule = partOf(['a'])
    expect(schedule.arrived('a', 0, 10)).toBe(false)
    schedule.verified(0)
    expect(schedule.verifiedPieces).toBe(0)
  })

  test('nobody is blamed for the wait until the next one', () => {
    const schedule = partOf(['a', 'b'])
    schedule.decide(0)
    schedule.sourceHas('b', range(0, 1000))
    schedule.decide(1000)
    expect(asked(schedule.decide(2000), 'b').slice(0, 4)).toEqual(range(10, 14))
    expect(schedule.takeComplaints()).toEqual([])
  })
})

describe('from a predecessor that will never have some pieces', () => {
  test('they are asked of the next in the line, the others of it, at the same time', () => {
    const schedule = scheduleOf(['a', 'b'])
    schedule.sourceNeverHas('a', [0, 2])
    const asks = schedule.decide(0)
    expect(asked(asks, 'a')).toEqual([1, 3, 4, 5])
    expect(asked(asks, 'b')).toEqual([0, 2])
    expect(asked(asks, web)).toEqual([])
  })

  test('those that nobody in the line will ever have are asked of the web seed, and stay asked there', () => {
    const schedule = scheduleOf(['a', 'b'])
    schedule.sourceNeverHas('a', [0, 2])
    schedule.sourceNeverHas('b', [2])
    const asks = schedule.decide(0)
    expect([asked(asks, 'b'), asked(asks, web)]).toEqual([[0], [2]])
    const later = schedule.decide(300)
    expect([cancelled(later, 'b'), cancelled(later, web)]).toEqual([[], []])
  })

  test('what was asked of it before it said so is asked elsewhere', () => {
    const schedule = scheduleOf(['a', 'b'])
    expect(asked(schedule.decide(0), 'a')).toEqual([0, 1, 2, 3])
    schedule.sourceNeverHas('a', range(0, 1000))
    expect(asked(schedule.decide(10), 'b')).toEqual([0, 1, 2, 3])
  })

  test('while the next in the line is not connected yet, nothing of it is asked of the web seed', () => {
    const schedule = scheduleOf(['a'])
    schedule.setRoute(route([['a', 'b']]), 0)
    schedule.sourceNeverHas('a', [0])
    expect(asked(schedule.decide(0), web)).toEqual([])
    schedule.addSource('b', 'agent', 100)
    expect(asked(schedule.decide(100), 'b')).toEqual([0])
  })

  test('it is complete, and lacks nothing, with the pieces that it needs', () => {
    const schedule = scheduleOf(['a'])
    schedule.sourceNeverHas('a', range(0, 990))
    expect(schedule.isWantedBy('a', 5)).toBe(false)
    schedule.sourceHas('a', range(990, 999))
    expect([schedule.hasAll('a'), schedule.isWantedBy('a', 999)]).toEqual([false, true])
    schedule.sourceHas('a', [999])
    expect(schedule.hasAll('a')).toBe(true)
    schedule.sourceLacks('a', 999)
    expect(schedule.hasAll('a')).toBe(false)
  })
})
