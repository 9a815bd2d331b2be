import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Conduct, conduct, isConducted, type Member, type RolloutState, resumedPolicy } from './conduct.ts'
import { type DeploymentState, isActive } from './deployment.ts'
import { defaultPolicy, type Policy, waveAt } from './rollout-policy.ts'

const start = 1_000_000

/** A rollout as a person would play it on paper: cards that are moved. Each step checks the rules in their plain words. */
class Played {
  state: RolloutState = 'running'
  policy: Policy
  members: Member[]
  now = start

  constructor(total: number, policy: Policy) {
    this.policy = policy
    this.members = Array.from({ length: total }, (_, i) => ({
      id: i + 1,
      host: `n${i + 1}`,
      state: 'waiting' as DeploymentState,
      wave: waveAt(i, policy),
      standing: null,
    }))
  }

  count(...states: DeploymentState[]): number {
    return this.members.filter(({ state }) => states.includes(state)).length
  }

  get underWay(): Member[] {
    return this.members.filter(({ state }) => isActive(state))
  }

  set(id: number, change: Partial<Member>): void {
    this.members = this.members.map((member) => (member.id === id ? { ...member, ...change } : member))
  }

  /** What the conductor does with a decision. */
  look(): Conduct {
    const due = conduct({ state: this.state, policy: this.policy, members: this.members }, this.now)
    if (due.kind === 'begin') {
      for (const id of due.ids) {
        this.mayBegin(id)
        this.set(id, { state: 'queued' })
      }
      this.holdsBounds()
    }
    if (due.kind === 'halt') this.state = due.to
    if (due.kind === 'enough') this.state = 'succeeded'
    if (due.kind === 'end') this.state = due.to
    if (due.kind === 'enough' || (due.kind === 'halt' && due.to === 'stopped')) {
      for (const { id, state } of this.members) if (state === 'waiting') this.set(id, { state: 'cancelled' })
    }
    return due
  }

  /** The rules for one that begins, each from what lies on the table. */
  mayBegin(id: number): void {
    const { canary, stopAtFailed, startAt } = this.policy
    const one = this.members.find((member) => member.id === id)
    expect(this.state).toBe('running')
    expect(one).toMatchObject({ state: 'waiting' })
    expect(one?.behind).toBeUndefined()
    const wave = one?.wave ?? 0
    for (const other of this.members) {
      if (other.wave < wave) expect(['done', 'failed', 'cancelled']).toContain(other.state)
      if (canary !== undefined && wave > 0 && other.wave === 0 && other.standing === null) {
        expect(other.state).toBe('done')
      }
    }
    const fresh = this.members.filter(({ state, standing }) => state === 'failed' && standing === null).length
    if (stopAtFailed !== undefined) expect(fresh).toBeLessThan(stopAtFailed)
    if (startAt !== undefined) expect(this.now).toBeGreaterThanOrEqual(startAt)
  }

  holdsBounds(): void {
    const { concurrency, quorum, spares } = this.policy
    if (concurrency !== undefined) expect(this.underWay.length).toBeLessThanOrEqual(concurrency)
    if (quorum !== undefined && spares === 'hold') {
      expect(this.underWay.length + this.count('done')).toBeLessThanOrEqual(quorum)
    }
  }

  resume(): void {
    if (this.state !== 'paused') return
    this.policy = resumedPolicy(this.policy, this.members)
    this.members = this.members.map((member) =>
      (member.state === 'failed' || member.state === 'cancelled') && member.standing === null
        ? { ...member, standing: 'accepted' }
        : member,
    )
    this.state = 'running'
  }
}

const shareOf = (total: number) => fc.option(fc.integer({ min: 1, max: total }), { nil: undefined })

const games = fc.integer({ min: 1, max: 24 }).chain((total) =>
  fc.record({
    total: fc.constant(total),
    policy: fc.record({
      canary: shareOf(total),
      wave: shareOf(total),
      concurrency: shareOf(total),
      stopAtFailed: shareOf(total),
      quorum: shareOf(total),
      startAt: fc.option(fc.integer({ min: start - 5, max: start + 5 }), { nil: undefined }),
      atFailures: fc.constantFrom('stop' as const, 'pause' as const),
      spares: fc.constantFrom('hold' as const, 'begin' as const),
      order: fc.constant('given' as const),
    }),
    moves: fc.array(
      fc.record({
        kind: fc.constantFrom('done', 'done', 'done', 'failed', 'pause', 'resume', 'take-out', 'busy', 'free', 'look'),
        which: fc.nat(),
      }),
      { maxLength: 120 },
    ),
  }),
)

type Move = { readonly kind: string; readonly which: number }

function play(game: Played, { kind, which }: Move): void {
  const { underWay, members } = game
  const ended = underWay[which % Math.max(1, underWay.length)]
  const open = members.filter(({ state }) => state === 'waiting' || isActive(state))
  const one = open[which % Math.max(1, open.length)]
  if ((kind === 'done' || kind === 'failed') && ended) game.set(ended.id, { state: kind })
  if (kind === 'pause' && game.state === 'running') game.state = 'paused'
  if (kind === 'resume') game.resume()
  if (kind === 'take-out' && one) game.set(one.id, { state: 'cancelled', standing: 'taken-out' })
  if (kind === 'busy' && one?.state === 'waiting') game.set(one.id, { behind: 99 })
  if (kind === 'free' && one) game.set(one.id, { behind: undefined })
  game.now += 1
}

test('whatever happens, nothing begins out of turn, and every rollout ends when its hosts do and nobody holds it', () => {
  fc.assert(
    fc.property(games, ({ total, policy, moves }) => {
      const game = new Played(total, policy)
      for (const move of moves) {
        game.look()
        play(game, move)
      }
      // From here on nobody interferes: each host that begins ends well, and whoever is asked for resumes.
      for (let rounds = 0; isConducted(game.state) && rounds < 6 * total + 20; rounds += 1) {
        for (const { id } of game.members) game.set(id, { behind: undefined })
        game.resume()
        game.look()
        for (const { id } of game.underWay) game.set(id, { state: 'done' })
        game.now += 1
      }
      expect(isConducted(game.state)).toBe(false)
      expect(game.count('waiting')).toBe(0)
      const { quorum } = policy
      const counted = game.members.filter(({ standing }) => standing !== 'taken-out')
      const done = game.count('done')
      if (game.state === 'succeeded') expect(done).toBeGreaterThanOrEqual(quorum ?? counted.length)
      if (game.state === 'failed') expect(done).toBe(0)
      if (game.state === 'partly-failed') expect(done).toBeLessThan(quorum ?? counted.length)
      if (game.state === 'cancelled') expect(game.count('done', 'failed')).toBe(0)
    }),
    { numRuns: 3000 },
  )
})

const members = (states: string): Member[] =>
  states.split('').map((letter, i) => ({
    id: i + 1,
    host: `n${i + 1}`,
    state: ({ w: 'waiting', u: 'deploying', d: 'done', f: 'failed', c: 'cancelled' } as const)[letter] ?? 'waiting',
    wave: 1,
    standing: null,
  }))
const decide = (states: string, policy: Partial<Policy>, more: Partial<{ state: RolloutState; now: number }> = {}) =>
  conduct(
    { state: more.state ?? 'running', policy: { ...defaultPolicy, ...policy }, members: members(states) },
    more.now ?? start,
  )

test('a rollout without bounds begins whole', () => {
  expect(decide('www', {})).toEqual({ kind: 'begin', ids: [1, 2, 3] })
})

test('as many begin as there are places', () => {
  expect(decide('uwwww', { concurrency: 3 })).toEqual({ kind: 'begin', ids: [2, 3] })
  expect(decide('uuuww', { concurrency: 3 })).toMatchObject({ kind: 'wait', why: expect.stringMatching(/3 at a time/) })
})

test('a spare begins when one that was counted on fails, and not before', () => {
  expect(decide('duuw', { quorum: 3 })).toMatchObject({ kind: 'wait', why: expect.stringMatching(/spare/) })
  expect(decide('dufw', { quorum: 3 })).toEqual({ kind: 'begin', ids: [4] })
  expect(decide('dddw', { quorum: 3 })).toMatchObject({ kind: 'enough' })
  expect(decide('duuw', { quorum: 3, spares: 'begin' })).toEqual({ kind: 'begin', ids: [4] })
})

test('too many failures stop what has not begun, or pause it', () => {
  expect(decide('fwww', { stopAtFailed: 2 })).toMatchObject({ kind: 'begin' })
  expect(decide('ffuw', { stopAtFailed: 2 })).toEqual({
    kind: 'halt',
    to: 'stopped',
    why: '2 of 4 hosts failed, and 2 are too many',
  })
  expect(decide('ffuw', { stopAtFailed: 2, atFailures: 'pause' })).toMatchObject({ to: 'paused' })
  // There is nothing left to stop.
  expect(decide('ffuu', { stopAtFailed: 2 })).toEqual({ kind: 'wait' })
})

test('nothing begins before its time, nor while it is paused', () => {
  expect(decide('w', { startAt: start + 1 })).toMatchObject({ kind: 'wait', why: expect.stringMatching(/start/) })
  expect(decide('w', { startAt: start + 1 }, { now: start + 1 })).toMatchObject({ kind: 'begin' })
  expect(decide('w', {}, { state: 'paused' })).toMatchObject({ kind: 'wait', why: 'somebody to resume it' })
})

test.each([
  ['dd', {}, 'succeeded'],
  ['df', {}, 'partly-failed'],
  ['ddf', { quorum: 2 }, 'succeeded'],
  ['dff', { quorum: 2 }, 'partly-failed'],
  ['ff', {}, 'failed'],
  ['cc', {}, 'cancelled'],
  ['dc', {}, 'partly-failed'],
] as const)('%s with %o ends as %s', (states, policy, to) => {
  expect(decide(states, policy)).toMatchObject({ kind: 'end', to })
})
