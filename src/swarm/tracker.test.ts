import { describe, expect, test } from 'vitest'
import type { Route } from '../model/swarm.ts'
import { type AnnounceAnswer, isRefusal } from '../protocol/tracker-answer.ts'
import type { AgentReport, Announce } from '../protocol/tracker-wire.ts'
import type { Announcer } from './tracked-swarm.ts'
import { Tracker, type TrackerOptions } from './tracker.ts'

const infoHash = 'ab'.repeat(20)
const pieces = 1000

const idOf = (name: string): string => Buffer.from(name.padEnd(20, '.')).toString('hex')

type Told = Partial<Announce> & { readonly report?: Partial<AgentReport>; readonly who?: Partial<Announcer> }

/** A tracker under a clock that the test puts forward, and clients that do as they are told. */
function openWorld(options: Partial<TrackerOptions> = {}) {
  const tracker = new Tracker({ firstVersion: 0, ...options })
  const world = { tracker, nowMs: 1_000_000, agent, agents, stranger, run, members, routeOf }
  const addresses = new Map<string, string>()

  function announce(name: string, kind: 'agent' | 'stranger', { report, who, ...told }: Told) {
    const nth = addresses.size
    const address = addresses.get(name) ?? `10.0.${Math.floor(nth / 250)}.${(nth % 250) + 1}`
    addresses.set(name, address)
    const agent = {
      have: 0,
      rate: 0,
      slow: [],
      lagMs: 0,
      route: undefined,
      isLeaving: false,
      isPartial: false,
      ...report,
    }
    return tracker.announce(
      {
        infoHash,
        peerId: idOf(name),
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left: 1,
        event: undefined,
        isCompact: true,
        noPeerId: true,
        numwant: undefined,
        ipv6: undefined,
        key: undefined,
        agent: kind === 'agent' ? agent : undefined,
        ...told,
      },
      { kind, host: kind === 'agent' ? name : undefined, site: undefined, rack: undefined, address, pieces, ...who },
      world.nowMs,
    )
  }

  /** An agent of the host of that name announces. */
  function agent(name: string, told: Told = {}): AnnounceAnswer {
    const answer = announce(name, 'agent', told)
    if (isRefusal(answer)) throw new Error(answer.reason)
    return answer
  }

  function agents(names: readonly string[], toldBy: (name: string) => Told = () => ({})): void {
    for (const name of names) agent(name, toldBy(name))
  }

  function stranger(name: string, told: Told = {}): AnnounceAnswer {
    const answer = announce(name, 'stranger', told)
    if (isRefusal(answer)) throw new Error(answer.reason)
    return answer
  }

  /** Lets time pass, with whoever announces each second in it. */
  function run(ms: number, eachSecond: () => void = () => undefined): void {
    for (let passed = 0; passed < ms; passed += 250) {
      if (passed % 1000 === 0) eachSecond()
      world.nowMs += 250
      tracker.sweep(world.nowMs)
    }
  }

  function members() {
    return tracker.snapshot(infoHash, world.nowMs)?.members ?? []
  }

  function routeOf(name: string): Route | undefined {
    return members().find(({ host }) => host === name)?.route
  }

  return world
}

/** Hosts in the order of one pipeline. */
function line(world: ReturnType<typeof openWorld>): string[] {
  return world
    .members()
    .filter(({ route }) => route !== undefined)
    .toSorted((a, b) => (a.route?.depth[0] ?? 0) - (b.route?.depth[0] ?? 0))
    .map(({ host }) => host ?? '')
}

describe('agents', () => {
  test('are given a pipeline, and a new route when one joins', () => {
    const world = openWorld()
    world.run(1000, () => world.agent('n1'))
    expect(world.agent('n1').agent).toMatchObject({ nextMs: 1000, route: { sources: [[]], depth: [0] } })
    const behindFirst = { sources: [[{ peerId: idOf('n1'), ip: '10.0.0.1', port: 6881 }]] }
    expect(world.agent('n2').agent?.route).toMatchObject(behindFirst)
    expect(world.agent('n1').agent?.route).toMatchObject({ successors: [{ peerId: idOf('n2') }] })
    // The next plan is not due yet: it is told when to ask again.
    const waiting = world.agent('n3')
    expect(waiting.agent?.route).toBeUndefined()
    expect(waiting.agent?.nextMs).toBeLessThanOrEqual(250)
    world.nowMs += waiting.agent?.nextMs ?? 0
    expect(world.agent('n3').agent?.route?.depth).toEqual([2])
  })

  test('are sent a route once, and the next only when something changes', () => {
    const world = openWorld()
    world.run(1000, () => world.agent('n1'))
    const version = world.routeOf('n1')?.version
    expect(world.agent('n1', { report: { route: version } }).agent).toEqual({ nextMs: 1000, route: undefined })
    world.run(3000, () => world.agent('n1', { report: { route: version, have: 10 } }))
    expect(world.agent('n1', { report: { route: version } }).agent?.route).toBeUndefined()
    expect(world.agent('n1').agent?.route?.version).toBe(version)
  })

  test('are forgotten after four missed announces, and the line closes', () => {
    const world = openWorld()
    const all = ['n1', 'n2', 'n3']
    world.run(2000, () => world.agents(all))
    expect(line(world)).toEqual(['n1', 'n2', 'n3'])
    world.run(3000, () => world.agents(['n1', 'n3']))
    expect(line(world)).toEqual(['n1', 'n2', 'n3'])
    world.run(2000, () => world.agents(['n1', 'n3']))
    expect(line(world)).toEqual(['n1', 'n3'])
    expect(world.routeOf('n3')?.sources[0]?.[0]?.peerId).toBe(idOf('n1'))
  })

  test('that say they stop are gone at once', () => {
    const world = openWorld()
    world.run(1000, () => world.agents(['n1', 'n2']))
    world.agent('n1', { event: 'stopped' })
    world.run(250)
    expect(line(world)).toEqual(['n2'])
  })

  test('that leave feed nobody any more', () => {
    const world = openWorld()
    world.run(1000, () => world.agents(['n1', 'n2', 'n3']))
    world.agent('n1', { left: 0, report: { have: pieces, isLeaving: true } })
    world.run(250)
    expect(world.routeOf('n2')?.depth).toEqual([0])
    expect(world.routeOf('n1')?.successors).toEqual([])
    expect(world.members().find(({ host }) => host === 'n1')?.state).toBe('leaving')
    expect(world.stranger('x').peers).toHaveLength(2)
  })

  test('that start together stand in the order of their places and names', () => {
    const world = openWorld()
    world.agents(['n10', 'n9'], () => ({ who: { rack: 'r2' } }))
    world.agents(['n12', 'n11'], () => ({ who: { rack: 'r1' } }))
    world.run(250)
    expect(line(world)).toEqual(['n11', 'n12', 'n9', 'n10'])
  })

  test('that join later stand behind those that have begun, each of whom keeps its predecessor', () => {
    const world = openWorld()
    world.run(1000, () => world.agents(['n5', 'n6']))
    world.agent('n4')
    world.run(1000, () => world.agents(['n4', 'n5', 'n6'], () => ({ report: { have: 5 } })))
    expect(line(world)).toEqual(['n5', 'n6', 'n4'])
    // So much later that those cannot feed it any more in step.
    world.run(1000, () => world.agents(['n4', 'n5', 'n6'], () => ({ report: { have: 100 } })))
    world.agent('n1')
    world.run(500)
    expect(line(world)).toEqual(['n5', 'n6', 'n4', 'n1'])
    expect(world.members().map(({ generation }) => generation)).toEqual([0, 0, 0, 1])
  })

  test('come back to a new tracker in the order of their progress, whoever is first', () => {
    for (const order of [
      ['n1', 'n2', 'n3', 'n4'],
      ['n4', 'n3', 'n2', 'n1'],
      ['n3', 'n1', 'n4', 'n2'],
    ]) {
      const world = openWorld({ firstVersion: 5000 })
      const have: Record<string, number> = { n1: 100, n2: 400, n3: 250, n4: 395 }
      for (const name of order) {
        expect(world.agent(name, { report: { have: have[name] ?? 0, route: 17 } }).agent?.route).toBeUndefined()
      }
      world.run(2000, () => world.agents(order, (name) => ({ report: { have: have[name] ?? 0 } })))
      expect(line(world)).toEqual(['n2', 'n4', 'n3', 'n1'])
      expect(world.routeOf('n1')?.version).toBeGreaterThan(5000)
    }
  })

  test('that were restarted replace themselves', () => {
    const world = openWorld()
    world.agent('n1')
    world.agent('n1', { peerId: idOf('again') })
    expect(world.members().map(({ id }) => id)).toEqual([idOf('again')])
  })

  test('with the peer id of another are refused, those with a new address of their own are not', () => {
    const world = openWorld()
    world.agent('n1')
    expect(() => world.agent('n2', { peerId: idOf('n1') })).toThrow('has the peer id')
    expect(() => world.stranger('x', { peerId: idOf('n1') })).toThrow('has the peer id')
    world.agent('n1', { who: { address: '10.9.9.9' } })
    expect(world.members()).toMatchObject([{ host: 'n1', address: '10.9.9.9' }])
  })

  test('that have more pieces than there are are refused', () => {
    expect(() => openWorld().agent('n1', { report: { have: pieces + 1 } })).toThrow('the torrent has 1000 pieces')
  })

  test('are asked less often the more there are', () => {
    const world = openWorld()
    for (let i = 0; i < 24; i++) world.agent(`n${i}`)
    world.run(1000)
    // Hosts may still be coming in, and each changes the plan.
    expect(world.agent('n0')).toMatchObject({ intervalSeconds: 3, agent: { nextMs: 1000 } })
    world.run(3000, () => world.agents(Array.from({ length: 24 }, (_, i) => `n${i}`)))
    expect(world.agent('n0')).toMatchObject({ intervalSeconds: 3, agent: { nextMs: 3000 } })
    for (let i = 24; i < 5000; i++) world.agent(`n${i}`)
    expect(world.agent('n0').intervalSeconds).toBe(5)
  })

  test('are not forgotten because the tracker itself was stopped for a while', () => {
    const world = openWorld()
    world.run(1000, () => world.agents(['n1', 'n2']))
    world.nowMs += 60_000
    world.agent('n1')
    expect(line(world)).toEqual(['n1', 'n2'])
    // But who does not come back then is gone.
    world.run(6000, () => world.agent('n1'))
    expect(line(world)).toEqual(['n1'])
  })

  test('over the limit are refused with words', () => {
    const world = openWorld({ limits: { agentsMax: 2 } })
    world.agent('n1')
    world.agent('n2')
    expect(() => world.agent('n3')).toThrow('2 agents are in it')
    world.agent('n2', { peerId: idOf('again') })
  })
})

describe('a slow agent', () => {
  /** Each takes what the one before it has, and makes at most its own rate. */
  function pipeline(world: ReturnType<typeof openWorld>, names: readonly string[], rateOf: (name: string) => number) {
    const have = new Map(names.map((name) => [name, 0]))
    return (): void => {
      const order = line(world)
      for (const name of names) {
        const source = world.routeOf(name)?.sources[0]?.[0]
        const before = order.find((one) => idOf(one) === source?.peerId)
        const limit = source === undefined ? pieces : (have.get(before ?? '') ?? 0)
        const now = Math.min(limit, (have.get(name) ?? 0) + (world.routeOf(name) ? rateOf(name) : 0))
        have.set(name, Math.max(have.get(name) ?? 0, now))
        world.agent(name, { report: { have: have.get(name) ?? 0 } })
      }
    }
  }

  const names = Array.from({ length: 9 }, (_, i) => `n${i + 1}`)

  test('goes to the end of the line within seconds, and returns when it is well', () => {
    const world = openWorld()
    let slow = 1
    const step = pipeline(world, names, (name) => (name === 'n4' ? slow : 20))
    world.run(6000, step)
    expect(world.members().filter(({ isStraggler }) => isStraggler)).toMatchObject([{ host: 'n4' }])
    expect(world.routeOf('n5')?.sources[0]?.[0]?.peerId).toBe(idOf('n3'))
    expect(world.routeOf('n4')?.successors).toEqual([])
    slow = 20
    world.run(14_000, step)
    expect(world.members().filter(({ isStraggler }) => isStraggler)).toEqual([])
    expect(line(world).at(-1)).toBe('n4')
  })

  test('makes nobody else a straggler, and nobody is when all are slow', () => {
    const world = openWorld()
    const step = pipeline(world, names, () => 3)
    world.run(20_000, step)
    expect(world.members().filter(({ isStraggler }) => isStraggler)).toEqual([])
    expect(world.routeOf('n1')?.version).toBeLessThanOrEqual(2)
  })

  test('that two others complain about feeds nobody; who was never its successor is not heard', () => {
    const world = openWorld()
    const complaining = (about: string) => () => {
      for (const name of names) {
        const have = 10 + Math.floor((world.nowMs - 1_000_000) / 100)
        world.agent(name, { report: { have, slow: name === 'n5' || name === 'n9' ? [idOf(about)] : [] } })
      }
    }
    world.run(3000, complaining('n2'))
    world.run(3000, complaining('n4'))
    expect(world.members().filter(({ isStraggler }) => isStraggler)).toEqual([])
    // n5 is the only successor of n4: after four seconds of complaining it is believed.
    world.run(3000, complaining('n4'))
    expect(world.members().filter(({ isStraggler }) => isStraggler)).toMatchObject([{ host: 'n4' }])
  })
})

describe('stock clients', () => {
  test('are given an ordinary list, with intervals of theirs', () => {
    const world = openWorld()
    world.stranger('a')
    world.agent('n1')
    const answer = world.stranger('b')
    expect(answer).toMatchObject({ intervalSeconds: 30, minIntervalSeconds: 5, complete: 0, incomplete: 3 })
    expect(answer.agent).toBeUndefined()
    expect(answer.peers.map(({ ip }) => ip).sort()).toEqual(['10.0.0.1', '10.0.0.2'])
  })

  test('are told of those in their rack first, then of their site, and of the seeder beside the origin', () => {
    const origin = { peerId: idOf('origin'), ip: '10.77.0.1', port: 6890 }
    const world = openWorld({ originOf: () => origin })
    for (let i = 0; i < 300; i++) {
      world.agent(`n${i}`, { who: { site: i < 150 ? 'berlin' : 'paris', rack: `r${Math.floor(i / 10) % 15}` } })
    }
    const { peers } = world.stranger('x', { numwant: 30, who: { site: 'paris', rack: 'r3' } })
    expect(peers).toHaveLength(30)
    expect(peers[0]).toEqual(origin)
    const who = (ip: string) => world.members().find(({ address }) => address === ip)
    const near = peers.slice(1).map(({ ip }) => who(ip))
    expect(near.slice(0, 10).every((one) => one?.site === 'paris' && one.rack === 'r3')).toBe(true)
    expect(near.filter((one) => one?.site === 'paris').length).toBeGreaterThanOrEqual(26)
    expect(near.some((one) => one?.site === 'berlin')).toBe(true)
  })

  test('get no more than they want, fifty at most, and another part of the swarm each time', () => {
    const world = openWorld()
    for (let i = 0; i < 200; i++) world.agent(`n${i}`)
    expect(world.stranger('x', { numwant: 7 }).peers).toHaveLength(7)
    expect(world.stranger('x', { numwant: 0 }).peers).toEqual([])
    const [first, second] = [world.stranger('x', { numwant: 999 }).peers, world.stranger('x').peers]
    expect(first).toHaveLength(50)
    expect(new Set([...first, ...second].map(({ ip }) => ip)).size).toBe(100)
  })

  test('that have everything are not sent to each other', () => {
    const world = openWorld()
    world.stranger('a', { left: 0 })
    expect(world.stranger('b', { left: 0 })).toMatchObject({ peers: [], complete: 2 })
    expect(world.stranger('c').peers).toHaveLength(2)
  })

  test('are forgotten after two intervals', () => {
    const world = openWorld()
    world.stranger('a')
    world.run(60_000)
    expect(world.stranger('b').peers).toHaveLength(1)
    world.run(16_000)
    expect(world.stranger('c').peers).toHaveLength(1)
  })

  test('may move when their key shows that they are the same', () => {
    const world = openWorld()
    world.stranger('a', { key: 'k1' })
    expect(() => world.stranger('b', { peerId: idOf('a'), key: 'k2' })).toThrow('has the peer id')
    world.stranger('b', { peerId: idOf('a'), key: 'k1' })
    expect(world.members()).toMatchObject([{ address: '10.0.0.2' }])
  })

  test('are refused with words when there are too many of them', () => {
    const world = openWorld({ limits: { strangersMax: 1 } })
    world.stranger('a')
    expect(() => world.stranger('b')).toThrow('the swarm is full')
  })

  test('cannot name an address that is not theirs', () => {
    const world = openWorld()
    world.stranger('a', { ipv6: { ip: '2001:db8::1', port: 1 } })
    world.agent('n1', { ipv6: { ip: '2001:db8::2', port: 2 } })
    expect(
      world
        .stranger('b')
        .peers.map(({ ip }) => ip)
        .sort(),
    ).toEqual(['10.0.0.1', '10.0.0.2', '2001:db8::2'])
  })
})

test('a scrape counts who has everything, who does not, and who ever completed', () => {
  const world = openWorld()
  world.stranger('a', { left: 0, event: 'completed' })
  world.stranger('a', { left: 0, event: 'completed' })
  world.stranger('b')
  world.agent('n1')
  world.agent('n1', { left: 0, event: 'completed' })
  const other = 'cd'.repeat(20)
  const none = { complete: 0, downloaded: 0, incomplete: 0 }
  expect(world.tracker.scrape([infoHash, other], world.nowMs)).toEqual(
    new Map([
      [infoHash, { complete: 2, downloaded: 2, incomplete: 1 }],
      [other, none],
    ]),
  )
  world.stranger('a', { event: 'stopped', left: 0 })
  expect(world.tracker.scrape([infoHash], world.nowMs).get(infoHash)).toEqual({
    complete: 1,
    downloaded: 2,
    incomplete: 1,
  })
})

test('a swarm that nobody is in is forgotten after a while', () => {
  const world = openWorld()
  world.agent('n1', { event: 'stopped' })
  world.run(1000)
  expect(world.tracker.infoHashes).toEqual([infoHash])
  world.nowMs += 11 * 60 * 1000
  world.tracker.sweep(world.nowMs)
  expect(world.tracker.infoHashes).toEqual([])
})
