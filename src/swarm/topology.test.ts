import { describe, expect, test } from 'vitest'
import type { Route } from '../model/swarm.ts'
import { type Member, planRoutes as planSeats } from './topology.ts'

/** Members `n0`, `n1`... in racks of `rackSize`, sites of `siteRacks` racks. */
function members(count: number, options: { rackSize?: number; siteRacks?: number } = {}): Member[] {
  const { rackSize = count, siteRacks = count } = options
  return Array.from({ length: count }, (_, index) => {
    const rack = Math.floor(index / rackSize)
    return {
      id: `n${index}`,
      peer: { peerId: index.toString(16).padStart(40, '0'), ip: '10.0.0.1', port: 6881 + index },
      site: `s${Math.floor(rack / siteRacks)}`,
      rack: `r${rack}`,
      order: index,
      generation: 0,
      isStraggler: false,
      isLeaving: false,
      isPartial: false,
    }
  })
}

type Plan = Map<string, Omit<Route, 'version'>>

function planRoutes(...given: Parameters<typeof planSeats>): Plan {
  return new Map([...planSeats(...given)].map(([id, { route }]) => [id, route]))
}

/** The predecessor of each member in one stripe, by port: 0 is the web seed. */
function parents(plan: Plan, stripe: number): number[] {
  return [...plan.values()].map(({ sources }) => sources[stripe]?.[0]?.port ?? 0)
}

/** How many copies enter each group of members, counted in stripes of the whole. */
function copiesInto(all: readonly Member[], plan: Plan, groupOf: (member: Member) => string | undefined) {
  const byPort = new Map(all.map((member) => [member.peer.port, member]))
  const copies = new Map<string, number>()
  for (const member of all) {
    const route = plan.get(member.id)
    if (route === undefined) throw new Error(`no route for ${member.id}`)
    for (const [from] of route.sources) {
      const parent = from === undefined ? undefined : byPort.get(from.port)
      const group = groupOf(member) ?? ''
      if (parent !== undefined && groupOf(parent) === group) continue
      copies.set(group, (copies.get(group) ?? 0) + 1 / route.stripes)
    }
  }
  return copies
}

describe('a few hosts', () => {
  const plan = planRoutes(members(16), { pieces: 4096 })

  test('stand in one line in their order, its head at the web seed', () => {
    expect(parents(plan, 0)).toEqual([0, ...Array.from({ length: 15 }, (_, index) => 6881 + index)])
    expect([...plan.values()].map(({ depth }) => depth[0])).toEqual(Array.from({ length: 16 }, (_, index) => index))
  })

  test('know whom to ask when their predecessor fails', () => {
    expect(plan.get('n5')?.sources[0]?.map(({ port }) => port)).toEqual([6885, 6884, 6883, 6882])
  })

  test('know who asks them', () => {
    expect(plan.get('n5')?.successors.map(({ port }) => port)).toEqual([6887])
    expect(plan.get('n15')?.successors).toEqual([])
  })
})

test('the order of the members does not matter', () => {
  const all = members(50, { rackSize: 8 })
  const plan = planRoutes(all, { pieces: 100 })
  expect(planRoutes(all.toReversed(), { pieces: 100 })).toEqual(plan)
})

test.each([
  { count: 10_000, rackSize: 40 },
  { count: 1000, rackSize: 40 },
  { count: 999, rackSize: 37 },
  { count: 200, rackSize: 200 },
  { count: 72, rackSize: 7 },
])('$count hosts in racks of $rackSize: short ways, no up-link used twice, one copy into each rack', (shape) => {
  const all = members(shape.count, shape)
  const plan = planRoutes(all, { pieces: 1024 })
  const routes = [...plan.values()]
  expect(routes[0]?.stripes).toBe(2)
  // Two trees: what a host passes on is at most twice a half.
  const load = new Map<number, number>()
  for (const { sources } of routes) {
    for (const [from] of sources) load.set(from?.port ?? 0, (load.get(from?.port ?? 0) ?? 0) + 1)
  }
  expect(load.get(0)).toBe(2)
  expect(Math.max(...load.values())).toBe(2)
  const racks = Math.ceil(shape.count / shape.rackSize)
  const levels = (hosts: number) => Math.ceil(Math.log2(hosts + 1))
  expect(Math.max(...routes.flatMap(({ depth }) => depth))).toBeLessThanOrEqual(
    3 * (levels(racks) + 1) + levels(shape.rackSize) + 2,
  )
  for (const copies of copiesInto(all, plan, ({ rack }) => rack).values()) expect(copies).toBe(1)
})

test('every host reaches the web seed in each stripe', () => {
  const all = members(500, { rackSize: 21, siteRacks: 5 })
  const plan = planRoutes(all, { pieces: 1024 })
  for (const stripe of [0, 1]) {
    const up = parents(plan, stripe)
    for (let index = 0; index < all.length; index++) {
      let hops = 0
      for (let port = up[index] ?? 0; port !== 0; port = up[port - 6881] ?? 0) {
        hops += 1
        if (hops > all.length) throw new Error(`${all[index]?.id} stands in a circle`)
      }
      expect(hops).toBeLessThan(40)
    }
  }
})

test('one copy enters each site and each rack of it', () => {
  const all = members(400, { rackSize: 20, siteRacks: 5 })
  for (const pieces of [1024, 100_000]) {
    const plan = planRoutes(all, { pieces })
    expect([...copiesInto(all, plan, ({ site }) => site).values()]).toEqual([1, 1, 1, 1])
    for (const copies of copiesInto(all, plan, ({ rack }) => rack).values()) expect(copies).toBe(1)
  }
})

test('a route tells who of those it names stands at another site', () => {
  const all = members(4, { rackSize: 2, siteRacks: 1 })
  const plan = planRoutes(all, { pieces: 4096 })
  expect(all.map(({ id }) => plan.get(id)?.far.map((peerId) => Number.parseInt(peerId, 16)))).toEqual([
    [],
    [2],
    [1, 0],
    [1, 0],
  ])
})

test('a further site is one hop further from the web seed, not one tree', () => {
  const all = members(2000, { rackSize: 40, siteRacks: 10 })
  const plan = planRoutes(all, { pieces: 2048 })
  const deepest = new Map<string | undefined, number>()
  for (const { id, site } of all) {
    deepest.set(site, Math.max(deepest.get(site) ?? 0, ...(plan.get(id)?.depth ?? [])))
  }
  const depths = [...deepest.values()]
  expect(depths.length).toBe(5)
  for (const [index, depth] of depths.entries()) expect(depth).toBeLessThanOrEqual((depths[0] ?? 0) + index)
})

test('who joins late stands behind all who were there, whatever its order', () => {
  const all = members(4).map((member) => (member.id === 'n1' ? { ...member, generation: 1 } : member))
  const plan = planRoutes(all, { pieces: 4096 })
  expect(plan.get('n2')?.sources[0]?.[0]?.port).toBe(6881)
  expect(plan.get('n1')?.sources[0]?.[0]?.port).toBe(6884)
})

test.each([1, 2, 3, 4, 5, 6])(
  'hosts of five racks that come in any order, in two generations, never have one pass on more than a copy (order %i)',
  (seed) => {
    // Any fixed mixture will do.
    const mixed = (index: number) => (index * 7919 * seed + 13 * seed) % 71
    const all = members(72, { rackSize: 16, siteRacks: 5 }).map((member, index) => ({
      ...member,
      order: mixed(index),
      generation: mixed(index) < 30 ? 0 : 1,
    }))
    const plan = planRoutes(all, { pieces: 1024 })
    const given = new Map<number, number>()
    for (const stripe of [0, 1])
      for (const port of parents(plan, stripe)) given.set(port, (given.get(port) ?? 0) + 1 / 2)
    given.delete(0)
    expect(Math.max(...given.values())).toBeLessThanOrEqual(1)
  },
)

test('stragglers and who is leaving take from the end of the line and pass nothing on', () => {
  const all = members(6).map((member) => ({
    ...member,
    isStraggler: member.id === 'n1' || member.id === 'n2',
    isLeaving: member.id === 'n3',
  }))
  const plan = planRoutes(all, { pieces: 4096 })
  expect(plan.get('n4')?.sources[0]?.map(({ port }) => port)).toEqual([6881])
  for (const id of ['n1', 'n2']) {
    expect(plan.get(id)?.sources[0]?.[0]?.port).toBe(6886)
    expect(plan.get(id)?.successors).toEqual([])
  }
  expect(plan.get('n3')?.successors).toEqual([])
})

describe.each([
  { count: 72, rackSize: 72 },
  { count: 400, rackSize: 40 },
  { count: 403, rackSize: 31 },
])('in trees of $count hosts in racks of $rackSize, planned again', ({ count, rackSize }) => {
  // One rack is not full yet.
  const all = members(count + 1, { rackSize: rackSize + 1 })
  const before = planSeats(all.slice(0, count), { pieces: 1024 })
  const seated = all.map((member) => ({ ...member, seat: before.get(member.id)?.seat }))
  const changed = (now: readonly Member[]) => {
    const after = planSeats(now, { pieces: 1024, stripesBefore: 2 })
    const predecessors = (id: string, plan: typeof before) =>
      JSON.stringify(plan.get(id)?.route.sources.map(([first]) => first?.peerId))
    return now.filter(({ id }) => predecessors(id, before) !== predecessors(id, after)).length
  }

  test('for the same hosts everybody keeps its predecessors', () => {
    expect(changed(seated.slice(0, count))).toBe(0)
  })

  test('for one more, few get another predecessor', () => {
    expect(changed(seated)).toBeLessThanOrEqual(6)
  })

  test.each([0, 7, 30])('without host %i, few get another predecessor', (gone) => {
    expect(changed(seated.slice(0, count).filter((_, index) => index !== gone))).toBeLessThanOrEqual(12)
  })
})

test('a swarm of stragglers asks the web seed', () => {
  const plan = planRoutes(
    members(3).map((member) => ({ ...member, isStraggler: true })),
    { pieces: 4096 },
  )
  expect(parents(plan, 0)).toEqual([0, 0, 0])
})

test('nobody has no routes', () => {
  expect(planRoutes([], { pieces: 1 }).size).toBe(0)
})

test('who needs a part stands behind all who need everything, and feeds those like it', () => {
  const all = members(8).map((member, index) => ({ ...member, isPartial: index % 2 === 0 }))
  const plan = planRoutes(all, { pieces: 1000 })
  const before = (id: string) => plan.get(id)?.sources[0]?.[0]?.port
  // n1, n3, n5, n7, and then n0, n2, n4, n6.
  expect(['n1', 'n3', 'n5', 'n7'].map(before)).toEqual([undefined, 6882, 6884, 6886])
  expect(['n0', 'n2', 'n4', 'n6'].map(before)).toEqual([6888, 6881, 6883, 6885])
})
