import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Complaint, findStragglers, type Progress, type Standing } from './stragglers.ts'

const well: Standing = { isStraggler: false, sinceMs: 0, times: 0 }

type Given = { readonly start?: number; readonly rate: number; readonly seconds?: number } & Partial<Progress>

/** A member that made `rate` pieces a second over the last `seconds`, seen every half second up to 10,000 ms. */
function member(id: string, { start = 0, rate, seconds = 6, ...rest }: Given): Progress {
  const samples = Array.from({ length: seconds * 2 + 1 }, (_, i) => ({
    atMs: 10_000 - seconds * 1000 + i * 500,
    have: Math.floor(start + (rate * i) / 2),
  }))
  return {
    id,
    predecessors: [undefined],
    routedMs: 0,
    successors: 1,
    isComplete: false,
    standing: well,
    samples,
    ...rest,
  }
}

/** A pipeline: each takes from the one before it, the first from the web seed. */
function chain(given: readonly Given[]): Progress[] {
  return given.map((one, i) => member(`n${i}`, { predecessors: [i === 0 ? undefined : `n${i - 1}`], ...one }))
}

const judge = (members: readonly Progress[], complaints: readonly Complaint[] = []) =>
  findStragglers(members, complaints, { usualRate: 0, nowMs: 10_000 })

describe('by its progress', () => {
  test('a member that takes little while its predecessor has more is a straggler, those behind it are not', () => {
    const fast = { rate: 100 }
    const starved = { rate: 10 }
    const verdict = judge(chain([fast, fast, fast, { rate: 10 }, starved, starved, starved, starved, starved]))
    expect(verdict.demoted).toEqual(['n3'])
  })

  test('nobody is when all are equally slow', () => {
    for (const rate of [100, 9, 1, 0])
      expect(judge(chain(Array.from({ length: 9 }, () => ({ rate })))).demoted).toEqual([])
  })

  test('nobody is when the origin slows them all, though each predecessor is ahead', () => {
    const line = Array.from({ length: 9 }, (_, i) => ({ start: 1000 - i * 100, rate: 5 }))
    expect(judge(chain(line)).demoted).toEqual([])
  })

  test('of a line that gets nothing only the first one can be at fault', () => {
    const verdict = judge(chain([{ rate: 100 }, { rate: 100 }, { rate: 100 }, { rate: 0 }, { rate: 0 }, { rate: 0 }]))
    expect(verdict.demoted).toEqual(['n3'])
  })

  test('nobody is while the pipeline fills', () => {
    const filling = chain([{ rate: 100 }, { rate: 0 }, { rate: 0 }, { rate: 0 }])
    expect(judge(filling.map((one) => ({ ...one, routedMs: 8500 }))).demoted).toEqual([])
  })

  test('four seconds are needed, counted from when it got its predecessor', () => {
    const line = (routedMs: number) => chain([{ rate: 100 }, { rate: 10, routedMs }, { rate: 90 }, { rate: 90 }])
    expect(judge(line(6600)).demoted).toEqual([])
    expect(judge(line(6000)).demoted).toEqual(['n1'])
  })

  test('a few large pieces are no evidence yet', () => {
    const slow = { rate: 0.4 }
    expect(judge(chain([{ rate: 1, start: 50 }, slow, slow, { rate: 1 }])).demoted).toEqual([])
  })

  test('a head that others overtake is a straggler', () => {
    const others = Array.from({ length: 5 }, (_, i) => member(`m${i}`, { rate: 80, predecessors: ['h'] }))
    expect(judge([member('h', { rate: 10 }), ...others]).demoted).toEqual(['h'])
  })

  test('who shares its predecessor with more than there are stripes is not expected to be as fast as the others', () => {
    const line = chain([{ rate: 100, successors: 3 }, { rate: 100 }, { rate: 100 }, { rate: 100 }])
    const sharing = [0, 1].map((i) => member(`s${i}`, { rate: 34, predecessors: ['n0'] }))
    expect(judge([...line, ...sharing]).demoted).toEqual([])
  })

  test('at most a third is, the slowest first', () => {
    const slow = Array.from({ length: 5 }, (_, i) => member(`s${i}`, { rate: i, predecessors: ['f0'] }))
    const fast = Array.from({ length: 7 }, (_, i) => member(`f${i}`, { rate: 100, successors: 1 }))
    expect(judge([...slow, ...fast]).demoted).toEqual(['s0', 's1', 's2', 's3'])
    expect(judge(chain([{ rate: 100 }, { rate: 1 }])).demoted).toEqual([])
  })

  test('the last ones are judged by what was usual', () => {
    const done = Array.from({ length: 8 }, (_, i) => member(`d${i}`, { rate: 0, isComplete: true }))
    const last = member('l', { rate: 10, predecessors: ['d0'] })
    expect(findStragglers([...done, last], [], { usualRate: 100, nowMs: 10_000 }).demoted).toEqual(['l'])
  })

  test('whatever the members do, no more than a third are stragglers and nobody is without evidence', () => {
    const given = fc.record({ rate: fc.nat(200), start: fc.nat(2000), seconds: fc.integer({ min: 1, max: 8 }) })
    fc.assert(
      fc.property(fc.array(given, { maxLength: 30 }), (line) => {
        const members = chain(line)
        const { demoted } = judge(members)
        expect(demoted.length).toBeLessThanOrEqual(members.length / 3)
        const young = members.filter(({ samples }) => samples.length < 5).map(({ id }) => id)
        expect(demoted.filter((id) => young.includes(id))).toEqual([])
      }),
    )
  })
})

describe('by complaints', () => {
  const even = chain(Array.from({ length: 9 }, () => ({ rate: 100 })))
  const complaint = (from: string, about: string, firstMs: number, lastMs = 10_000): Complaint => ({
    from,
    about,
    firstMs,
    lastMs,
  })

  test('two successors that are starved by one make it a straggler', () => {
    expect(judge(even, [complaint('n4', 'n3', 6000), complaint('n5', 'n3', 9000)]).demoted).toEqual(['n3'])
  })

  test('one alone does so only when it is the only one and goes on', () => {
    expect(judge(even, [complaint('n4', 'n3', 7000)]).demoted).toEqual([])
    expect(judge(even, [complaint('n4', 'n3', 6000)]).demoted).toEqual(['n3'])
    const shared = even.map((one) => (one.id === 'n3' ? { ...one, successors: 2 } : one))
    expect(judge(shared, [complaint('n4', 'n3', 1000)]).demoted).toEqual([])
  })

  test('less than four seconds of them are no evidence, more than ten are forgotten', () => {
    expect(judge(even, [complaint('n4', 'n3', 6500), complaint('n5', 'n3', 9000)]).demoted).toEqual([])
    const late = findStragglers(even, [complaint('n4', 'n3', 7000), complaint('n5', 'n3', 7000)], {
      usualRate: 0,
      nowMs: 20_500,
    })
    expect(late.demoted).toEqual([])
  })

  test('who complains of everyone is the straggler itself', () => {
    expect(judge(even, [complaint('n4', 'n3', 6000), complaint('n4', 'n2', 7000)]).demoted).toEqual(['n4'])
  })

  test('a slow one that complains goes together with its predecessor: either may be at fault', () => {
    const line = chain([{ rate: 100 }, { rate: 100 }, { rate: 10 }, { rate: 10 }, { rate: 100 }, { rate: 100 }])
    expect(judge(line, [complaint('n2', 'n1', 6000)]).demoted).toEqual(['n2', 'n1'])
  })
})

describe('a straggler', () => {
  const others = chain(Array.from({ length: 8 }, () => ({ rate: 100 })))
  const judgeOne = (rate: number, standing: Partial<Standing>) =>
    judge([...others, member('s', { rate, standing: { isStraggler: true, sinceMs: 4000, times: 1, ...standing } })])

  test('returns when it has been well for five seconds', () => {
    expect(judgeOne(75, {}).readmitted).toEqual(['s'])
    expect(judgeOne(65, {}).readmitted).toEqual([])
    expect(judgeOne(75, { sinceMs: 6000 }).readmitted).toEqual([])
  })

  test('waits longer each time', () => {
    expect(judgeOne(100, { times: 2 }).readmitted).toEqual([])
    expect(judgeOne(100, { times: 2, sinceMs: 0 }).readmitted).toEqual(['s'])
  })

  test('is not demoted again and its complaints are not heard', () => {
    const straggler = member('s', {
      rate: 1,
      predecessors: ['n0'],
      standing: { ...well, isStraggler: true, sinceMs: 9000 },
    })
    const verdict = judge([...others, straggler], [{ from: 's', about: 'n0', firstMs: 1000, lastMs: 10_000 }])
    expect(verdict).toMatchObject({ demoted: [], readmitted: [] })
  })
})
