import { describe, expect, test } from 'vitest'
import { assignSlots, type Slots, type StrangerUpload, Uploads } from './upload.ts'

describe('the slots', () => {
  const none: Slots<string> = { held: [], waiting: [], rotatedAtMs: 0 }
  const six = new Set(['a', 'b', 'c', 'd', 'e', 'f'])

  test('go to the first four that are interested, the others wait', () => {
    expect(assignSlots(none, six, 1)).toEqual({ held: ['a', 'b', 'c', 'd'], waiting: ['e', 'f'], rotatedAtMs: 0 })
  })

  test('pass every ten seconds from who held one longest to who waited longest', () => {
    let slots = assignSlots(none, six, 0)
    slots = assignSlots(slots, six, 9_999)
    expect(slots.held).toEqual(['a', 'b', 'c', 'd'])
    slots = assignSlots(slots, six, 10_000)
    expect(slots).toEqual({ held: ['b', 'c', 'd', 'e'], waiting: ['f', 'a'], rotatedAtMs: 10_000 })
    expect(assignSlots(slots, six, 19_999).held).toEqual(['b', 'c', 'd', 'e'])
    expect(assignSlots(slots, six, 20_000).held).toEqual(['c', 'd', 'e', 'f'])
  })

  test('serve everybody alike in the long run', () => {
    const many = new Set(Array.from({ length: 23 }, (_, index) => index))
    const served = new Map<number, number>()
    let slots: Slots<number> = { held: [], waiting: [], rotatedAtMs: 0 }
    for (let now = 0; now < 23 * 10 * 10_000; now += 10_000) {
      slots = assignSlots(slots, many, now)
      expect(slots.held.length).toBe(4)
      for (const one of slots.held) served.set(one, (served.get(one) ?? 0) + 1)
    }
    expect(new Set(served.values()).size).toBeLessThanOrEqual(2)
    expect(Math.max(...served.values()) - Math.min(...served.values())).toBeLessThanOrEqual(4)
  })

  test('are free as soon as somebody leaves or is no longer interested', () => {
    const slots = assignSlots(none, six, 0)
    expect(assignSlots(slots, new Set(['a', 'c', 'd', 'e', 'f']), 5)).toEqual({
      held: ['a', 'c', 'd', 'e'],
      waiting: ['f'],
      rotatedAtMs: 0,
    })
    expect(assignSlots(slots, new Set(), 5).held).toEqual([])
  })
})

function stranger() {
  const told: string[] = []
  const one: StrangerUpload & { isInterested: boolean } = {
    isInterested: true,
    setChoked: (isChoked) => told.push(isChoked ? 'choke' : 'unchoke'),
    serve: () => told.push('serve'),
  }
  return { one, told }
}

describe('strangers', () => {
  test('are unchoked when they come and choked when they lose interest', () => {
    const uploads = new Uploads({ now: () => 0 })
    const { one, told } = stranger()
    uploads.add(one)
    one.isInterested = false
    uploads.review()
    expect(told).toEqual(['unchoke', 'choke'])
    uploads.remove(one)
  })

  test('beside a busy agent get a sixteenth, and all when no agent waits', () => {
    const uploads = new Uploads({ now: () => 0 })
    const agent = {}
    const { one, told } = stranger()
    uploads.add(one)
    expect(uploads.mayServe(one)).toBe(true)
    uploads.setBusy(agent, true)
    let strangerBytes = 0
    for (let round = 0; round < 1600; round++) {
      if (uploads.mayServe(one)) {
        strangerBytes += 1000
        uploads.countSent('stranger', 1000)
      } else uploads.countSent('agent', 1000)
    }
    expect(strangerBytes / 1_600_000).toBeCloseTo(1 / 16, 2)
    expect(told).toContain('serve')
    told.length = 0
    while (uploads.mayServe(one)) uploads.countSent('stranger', 1000)
    uploads.setBusy(agent, false)
    expect(told).toEqual(['serve'])
    expect(uploads.mayServe(one)).toBe(true)
    uploads.remove(one)
  })

  test('do not wait for an agent that takes nothing', () => {
    let now = 0
    const uploads = new Uploads({ now: () => now })
    const { one } = stranger()
    uploads.setBusy({}, true)
    expect(uploads.mayServe(one)).toBe(false)
    now = 1001
    expect(uploads.mayServe(one)).toBe(true)
    uploads.remove(one)
  })
})
