// Which piece is asked of whom: one agent's decisions. Pure and deterministic: no socket, no timer, no clock; the same code
// serves an agent and thousands of simulated ones.
//
// The rule: each stripe in order from its predecessor, whether that has the pieces already or will have them (it keeps the
// question until then, so a pipeline has no round trips). Others are asked when the predecessor is gone, when it stands
// still while they have what is missing, or when it has delivered much less than they receive for a while. Two that are fed
// by one get half each: whoever passes its source over must see that lasting gain, or goes back. What is outstanding at a
// source follows the rate at which it delivers. The web seed is asked by who has no predecessor, by the others only when
// nobody upstream moves, the nearest to the head first. A host that needs only a part of the pieces says which it will never have;
// those are asked of whoever stands before it.
import { type PieceGeometry, pieceCount, type Route } from '../model/swarm.ts'
import { emptyBitfield, hasBit, setBit } from '../protocol/bitfield.ts'
import { limits } from './schedule-limits.ts'
import { hasPiece, isNever, newSource, noteBytes, type Source, type SourceKind } from './schedule-source.ts'
import { emptyStripe, type Stripe, sameLevel, starvedMs } from './schedule-stripe.ts'

export type Ask =
  | { readonly kind: 'request'; readonly source: string; readonly pieces: readonly number[] }
  | { readonly kind: 'cancel'; readonly source: string; readonly pieces: readonly number[] }

/** What is known of a piece, in this order. */
const missing = 0
const asked = 1
/** Here, being hashed. */
const arrived = 2
const verified = 3
/** Of no use to us: it is not here, and nobody is asked for it. */
const unneeded = 4

/** Who before our source gets on much faster than we do, and how fast. */
type Faster = { readonly level: number; readonly fair: number }

export class Schedule {
  readonly #geometry: PieceGeometry
  readonly #count: number
  /** Of them, how many we need. */
  readonly #needed: number
  readonly #status: Uint8Array
  /** How many sources a piece is asked of. */
  readonly #askedOf: Uint8Array
  readonly #sources = new Map<string, Source>()
  readonly #webSeeds: Source[] = []
  readonly #gone = new Set<string>()
  readonly #banned = new Set<string>()
  readonly #jitterMs: number
  #stripes: Stripe[]
  #route: Pick<Route, 'stripes' | 'stripePieces'> = { stripes: 1, stripePieces: 1 }
  #verified = 0
  #here = 0
  #outstanding = 0
  #room = Number.POSITIVE_INFINITY
  #asks: Ask[] = []
  #judgedAt = Number.NEGATIVE_INFINITY
  #paceAt = Number.NEGATIVE_INFINITY
  #paceMs: number = limits.paceMs
  #hereThen = 0
  #paceBest = 0
  #pace = 0
  /** The greater one of the last two before nothing came: one of them may have ended half-way. */
  #paceSeen = 0
  /** Pieces that came once more since the pace was last compared: whoever was sending them had been given up too soon. */
  #again = 0
  /** How many times the usual patience we have. */
  #patience = 1
  readonly #complaints = new Set<string>()
  /** Whom the route names. */
  #named = new Set<string>()

  /**
   * `jitterMs`: this host's own delay before it turns to the web seed, so that not all do at once. `wanted`: the pieces that it
   * needs, all unless given.
   */
  constructor(
    geometry: PieceGeometry,
    options: { readonly jitterMs?: number; readonly wanted?: ReadonlySet<number> | undefined } = {},
  ) {
    const { wanted } = options
    this.#geometry = geometry
    this.#count = pieceCount(geometry)
    this.#needed = wanted?.size ?? this.#count
    this.#status = Uint8Array.from({ length: this.#count }, (_, piece) =>
      wanted === undefined || wanted.has(piece) ? missing : unneeded,
    )
    this.#askedOf = new Uint8Array(this.#count)
    this.#jitterMs = options.jitterMs ?? 0
    this.#stripes = [emptyStripe([], 0, 0)]
  }

  get isComplete(): boolean {
    return this.#verified === this.#needed
  }

  get verifiedPieces(): number {
    return this.#verified
  }

  isVerified(piece: number): boolean {
    return this.#status[piece] === verified
  }

  /** The tracker's word on whom to ask. */
  setRoute(route: Omit<Route, 'version'>, now: number): void {
    const former = this.#stripes
    this.#named = new Set(route.sources.flatMap((line) => line.map(({ peerId }) => peerId)))
    const isSame = route.stripes === this.#route.stripes && route.stripePieces === this.#route.stripePieces
    this.#route = route
    this.#stripes = Array.from({ length: route.stripes }, (_, index) => {
      const line = (route.sources[index] ?? []).map(({ peerId }) => peerId).filter((id) => !this.#banned.has(id))
      const depth = route.depth[index] ?? 0
      const before = isSame ? former[index] : undefined
      if (before !== undefined && before.line[0] === line[0] && (line.length > 0 || before.line.length === 0)) {
        const { trial } = before
        const isSameTrial = trial !== undefined && line[trial.from] === before.line[trial.from]
        return { ...before, line, depth, level: sameLevel(before, line), trial: isSameTrial ? trial : undefined }
      }
      const last = before ?? former[0]
      const primary = last === undefined ? undefined : this.#primaryOf(last)
      return {
        ...emptyStripe(line, depth, now),
        low: before?.low ?? index * route.stripePieces,
        // Trials that failed tell of our own link, whoever is asked.
        trialPauseMs: last?.trialPauseMs ?? limits.trialPauseMs,
        noTrialUntil: last?.noTrialUntil ?? 0,
        former: primary?.kind === 'agent' ? primary.id : undefined,
      }
    })
    // A source that is no longer in the line and was gone may come back under its id.
    this.#gone.clear()
  }

  addSource(id: string, kind: SourceKind, now: number): void {
    const source = newSource(id, kind, {
      pieces: this.#count,
      needed: this.#needed,
      pieceBytes: this.#geometry.pieceBytes,
      now,
    })
    this.#sources.set(id, source)
    this.#gone.delete(id)
    if (kind === 'web-seed') this.#webSeeds.push(source)
  }

  /** The source is gone, or could not be reached: what was asked of it is missing again. */
  removeSource(id: string): void {
    this.#gone.add(id)
    const source = this.#sources.get(id)
    if (source === undefined) return
    this.#sources.delete(id)
    for (const piece of source.asked.keys()) this.#unask(source, piece)
    const place = this.#webSeeds.indexOf(source)
    if (place >= 0) this.#webSeeds.splice(place, 1)
  }

  /** The source holds these pieces. */
  sourceHas(id: string, pieces: Iterable<number>): void {
    const source = this.#sources.get(id)
    if (source?.has === undefined) return
    for (const piece of pieces) {
      if (piece >= this.#count || hasBit(source.has, piece)) continue
      setBit(source.has, piece, true)
      source.top = Math.max(source.top, piece + 1)
      if (source.asked.has(piece)) source.askedHeld += 1
      if (this.#status[piece] !== unneeded) source.count += 1
      if (!isNever(source, piece)) source.lacking -= 1
    }
  }

  /** The source does not have these pieces and never will. */
  sourceNeverHas(id: string, pieces: Iterable<number>): void {
    const source = this.#sources.get(id)
    if (source?.has === undefined) return
    source.never ??= emptyBitfield(this.#count)
    for (const piece of pieces) {
      if (piece >= this.#count || isNever(source, piece)) continue
      setBit(source.never, piece, true)
      if (!hasPiece(source, piece)) source.lacking -= 1
      this.#unask(source, piece)
    }
  }

  sourceLacks(id: string, piece: number): void {
    const source = this.#sources.get(id)
    if (source?.has === undefined || !hasPiece(source, piece)) return
    setBit(source.has, piece, false)
    if (source.asked.has(piece)) source.askedHeld -= 1
    if (this.#status[piece] !== unneeded) source.count -= 1
    if (!isNever(source, piece)) source.lacking += 1
  }

  /** Whether a neighbour that we pass pieces on to, or that might ask, still lacks this piece. */
  isWantedBy(id: string, piece: number): boolean {
    const source = this.#sources.get(id)
    return source !== undefined && !hasPiece(source, piece) && !isNever(source, piece)
  }

  /** True when the source holds every piece that it needs. */
  hasAll(id: string): boolean {
    return this.#sources.get(id)?.lacking === 0
  }

  /** Bytes of pieces have come from the source. */
  heard(id: string, bytes: number, now: number): void {
    const source = this.#sources.get(id)
    if (source !== undefined) noteBytes(source, bytes, now)
  }

  /** A piece is here whole. False when it was here before: nothing is to be done with it. */
  arrived(id: string, piece: number, now: number): boolean {
    const source = this.#sources.get(id)
    if (source !== undefined) {
      source.isRefusing = false
      this.#settle(source, piece)
      if (source.windowPieces < this.#windowMax(source)) source.windowPieces += 1
    }
    const status = this.#status[piece]
    if (status === undefined) return false
    if (status >= arrived) {
      this.#again += 1
      return false
    }
    this.#status[piece] = arrived
    this.#here += 1
    const stripe = this.#stripeOf(piece)
    if (stripe !== undefined) {
      const gapMs = now - stripe.progressAt
      stripe.gapMs = Math.max(gapMs, stripe.gapMs * 0.5 ** (gapMs / limits.gapHalfLifeMs))
      stripe.progressAt = now
    }
    if ((this.#askedOf[piece] ?? 0) > 0) {
      for (const other of this.#sources.values()) if (other.asked.has(piece)) this.#cancel(other, piece)
    }
    return true
  }

  /** The piece has the right hash. Also for what was here from the start. */
  verified(piece: number): void {
    const status = this.#status[piece]
    if (status === verified || status === unneeded || status === undefined) return
    if (status !== arrived) this.#here += 1
    this.#status[piece] = verified
    this.#verified += 1
  }

  /** The piece that arrived from the source has another hash. An agent or a stranger that lies is not asked again. */
  corrupt(id: string, piece: number): void {
    if (this.#status[piece] === arrived) this.#missing(piece)
    const source = this.#sources.get(id)
    this.#complain(id)
    if (source?.kind === 'web-seed') return
    this.#banned.add(id)
    for (const stripe of this.#stripes) stripe.line = stripe.line.filter((other) => other !== id)
  }

  /** A piece that had come is not here any more, and is needed. */
  lost(piece: number): void {
    const status = this.#status[piece]
    if (status !== arrived && status !== verified) return
    if (status === verified) this.#verified -= 1
    this.#missing(piece)
  }

  isBanned(id: string): boolean {
    return this.#banned.has(id)
  }

  /** The source will not deliver the piece. */
  refused(id: string, piece: number): void {
    const source = this.#sources.get(id)
    if (source === undefined || !source.asked.has(piece)) return
    if (source.kind !== 'web-seed') this.sourceLacks(id, piece)
    source.isRefusing = true
    source.windowPieces = Math.max(1, source.windowPieces >> 1)
    this.#unask(source, piece)
  }

  /** So many pieces may be outstanding in all: what there is memory for. */
  setRoom(pieces: number): void {
    this.#room = pieces
  }

  /**
   * Sources that were left since the last call because they were slow or silent, and those of the route that have lied. Each
   * is told once for each time: what stood still for a moment must not look like what is slow.
   */
  takeComplaints(): string[] {
    // Whoever needs few pieces waits long for the next one, and nobody is to blame.
    const starving = this.#needed < this.#count ? [] : this.#complaints
    const complaints = new Set([...starving, ...[...this.#banned].filter((id) => this.#named.has(id))])
    this.#complaints.clear()
    return [...complaints]
  }

  /** What to ask now. To be called whenever something has happened, and every 100 ms. */
  decide(now: number): readonly Ask[] {
    if (now - this.#judgedAt >= limits.judgeEveryMs) {
      this.#judgedAt = now
      this.#judge(now)
    }
    if (this.#here < this.#needed) {
      for (const stripe of this.#stripes) {
        const primary = this.#primaryOf(stripe)
        // An origin that is away must not get again what it has just failed to give: others may have it.
        const isLast = primary?.isRefusing === true
        if (primary !== undefined && !isLast) this.#topUpFrom(stripe, primary, now)
        if (stripe.asksAnyone) {
          for (const source of this.#sources.values()) {
            if (source.kind !== 'web-seed' && source !== primary) this.#topUp(stripe, source, now)
          }
        }
        if (primary !== undefined && isLast) this.#topUpFrom(stripe, primary, now)
      }
    }
    const asks = this.#asks
    this.#asks = []
    return asks
  }

  /** Who is asked for a stripe now. */
  #primaryOf(stripe: Stripe): Source | undefined {
    const id = stripe.line[stripe.level]
    if (id === undefined) return this.#webSeed()
    const source = this.#sources.get(id)
    if (source !== undefined) return source
    return stripe.former === undefined ? undefined : this.#sources.get(stripe.former)
  }

  /** The web seed with the least outstanding: mirrors share the work. */
  #webSeed(): Source | undefined {
    let best: Source | undefined
    for (const source of this.#webSeeds) if (best === undefined || source.asked.size < best.asked.size) best = source
    return best
  }

  #windowMax(source: Source): number {
    const { pieceBytes } = this.#geometry
    const isWeb = source.kind === 'web-seed'
    const ms = isWeb ? limits.webWindowMs : limits.windowMs
    const known = source.bytesPerSecond === 0 ? limits.windowBytesUnknown : (source.bytesPerSecond * ms) / 1000
    const bytes = Math.min(limits.windowBytesMax, Math.max(known, isWeb ? limits.webWindowBytesMin : 0))
    return Math.min(limits.windowPiecesMax, Math.max(limits.windowPiecesMin, Math.ceil(bytes / pieceBytes) + 1))
  }

  /** Asks the primary, and for what that will never have, whoever comes next in the line and will, the web seed last. */
  #topUpFrom(stripe: Stripe, primary: Source, now: number): void {
    this.#topUp(stripe, primary, now, { ahead: primary.kind === 'agent' })
    if (primary.never === undefined) return
    const before = [primary]
    for (const id of stripe.line.slice(stripe.level + 1)) {
      const next = this.#sources.get(id)
      if (next === undefined && !this.#gone.has(id)) return
      if (next === undefined) continue
      this.#topUp(stripe, next, now, { ahead: true, before })
      if (next.never === undefined) return
      before.push(next)
    }
    const seed = this.#webSeed()
    if (seed !== undefined) this.#topUp(stripe, seed, now, { before })
  }

  /**
   * Asks the source for the next missing pieces of the stripe, as far as its window goes: those it has, or with `ahead` those
   * it will have; only such as none of `before` ever will.
   */
  #topUp(
    stripe: Stripe,
    source: Source,
    now: number,
    { ahead = false, before = [] }: { readonly ahead?: boolean; readonly before?: readonly Source[] } = {},
  ): void {
    const window = Math.min(source.windowPieces, this.#windowMax(source))
    let room = Math.min(this.#room - this.#outstanding, limits.windowPiecesMax - source.asked.size)
    // Several at once, not one each time one has come: a web seed answers runs, and a packet with a question takes as much
    // of the way back as one with ten.
    const freeOf = (outstanding: number) => (outstanding > (window * 3) / 4 ? 0 : window - outstanding)
    // What it will have must not stand in the way of what it has: its own pieces may come to it in another order.
    let held = freeOf(source.askedHeld)
    let coming = ahead ? freeOf(source.asked.size) : 0
    if (room <= 0 || held + coming === 0) return
    // The rate is that of the time in which something was asked for.
    if (source.asked.size === 0) source.bucketSince = now
    const pieces: number[] = []
    for (let piece = this.#oldest(stripe); piece < this.#count && room > 0; piece = this.#nextOf(piece)) {
      if (coming <= 0 && (held <= 0 || piece >= source.top)) break
      if (this.#status[piece] !== missing) continue
      const isHeld = hasPiece(source, piece)
      if (isHeld ? held <= 0 : coming <= 0 || isNever(source, piece)) continue
      if (before.some((one) => hasPiece(one, piece) || !isNever(one, piece))) continue
      pieces.push(piece)
      source.asked.set(piece, now)
      if (isHeld) source.askedHeld += 1
      this.#countAsked(piece, 1)
      this.#status[piece] = asked
      room -= 1
      coming -= 1
      if (isHeld) held -= 1
    }
    if (pieces.length > 0) this.#asks.push({ kind: 'request', source: source.id, pieces })
  }

  #nextOf(piece: number): number {
    const { stripes, stripePieces } = this.#route
    const next = piece + 1
    return stripes === 1 || next % stripePieces !== 0 ? next : next + stripePieces * (stripes - 1)
  }

  #stripeOf(piece: number): Stripe | undefined {
    const { stripes, stripePieces } = this.#route
    return this.#stripes[stripes === 1 ? 0 : Math.floor(piece / stripePieces) % stripes]
  }

  /** The first piece of the stripe that is not here; the count when there is none. */
  #oldest(stripe: Stripe): number {
    while (stripe.low < this.#count && (this.#status[stripe.low] ?? 0) >= arrived) {
      stripe.low = this.#nextOf(stripe.low)
    }
    return stripe.low
  }

  #judge(now: number): void {
    if (this.#here === this.#needed) return
    this.#comparePace(now)
    for (const stripe of this.#stripes) {
      const oldest = this.#oldest(stripe)
      if (oldest >= this.#count) continue
      this.#noteFetcher(stripe, oldest, now)
      this.#judgeLevel(stripe, oldest, now)
      stripe.asksAnyone = stripe.level >= stripe.line.length || this.#isAtBreak(stripe, oldest, now)
      this.#judgeTrial(stripe, now)
    }
    this.#takeBackLate(now)
  }

  /** What was asked of others than the chosen ones must not wait for them long, and of web seeds not at all. */
  #takeBackLate(now: number): void {
    const chosen = new Set<Source | undefined>()
    for (const stripe of this.#stripes) {
      if (stripe.level >= stripe.line.length) for (const seed of this.#webSeeds) chosen.add(seed)
      const primary = this.#primaryOf(stripe)
      chosen.add(primary)
      if (primary?.never === undefined) continue
      for (const id of stripe.line.slice(stripe.level + 1)) chosen.add(this.#sources.get(id))
      for (const seed of this.#webSeeds) chosen.add(seed)
    }
    for (const source of this.#sources.values()) {
      if (source.asked.size === 0 || chosen.has(source)) continue
      const strayMs = limits.straysMs * this.#patience
      for (const [piece, at] of source.asked) {
        // What it does not have yet it may never get: those who wait for the next piece in order must not wait for that.
        const ageMs = source.kind === 'web-seed' ? 0 : hasPiece(source, piece) ? strayMs : limits.judgeEveryMs
        if (now - at >= ageMs) this.#cancel(source, piece)
      }
    }
  }

  /** Follows the one before us that lacks what we lack, though the one before it has it. */
  #noteFetcher(stripe: Stripe, oldest: number, now: number): void {
    const { line, level } = stripe
    const holder = this.#nextLevel({ line, level: level - 1 }, oldest)
    const source = holder > level && holder < line.length ? this.#sources.get(line[holder - 1] ?? '') : undefined
    if (source === undefined) {
      stripe.fetcher = undefined
      return
    }
    const before = stripe.fetcher?.source === source.id ? stripe.fetcher : undefined
    let piece = before?.piece ?? this.#stripes.indexOf(stripe) * this.#route.stripePieces
    while (piece < oldest && (hasPiece(source, piece) || isNever(source, piece))) piece = this.#nextOf(piece)
    if (piece !== before?.piece) stripe.fetcher = { source: source.id, piece, since: now }
  }

  /**
   * Whoever is to fetch what we lack is behind us and gets on as well as those before it, as it may be for a while after the
   * routes have changed: what we lack comes in its turn, and who gave it to us now would give less to those before us.
   */
  #isComing({ fetcher, gapMs, line }: Stripe, oldest: number, now: number): boolean {
    const source = this.#sources.get(fetcher?.source ?? '')
    if (fetcher === undefined || source === undefined || fetcher.piece >= oldest) return false
    if (now - fetcher.since > this.#patienceMs + 2 * Math.min(gapMs, this.#gapMsMax)) return false
    const above = line.slice(line.indexOf(source.id) + 1)
    const most = Math.max(0, ...above.map((id) => this.#sources.get(id)?.gained ?? 0))
    return source.countThen === 0 || source.gained >= limits.returnPart * most
  }

  #judgeLevel(stripe: Stripe, oldest: number, now: number): void {
    const id = stripe.line[stripe.level]
    // At the web seed because there is no line, or nothing better came of it.
    if (id !== undefined) {
      const source = this.#sources.get(id)
      if (source === undefined) {
        const isGone = this.#gone.has(id)
        if (!isGone && now - stripe.levelSince < limits.connectMs) return
        this.#complain(id)
        this.#moveTo(stripe, this.#nextLevel(stripe, undefined), now)
        return
      }
      const waitedMs = starvedMs(stripe, now)
      if (waitedMs > this.#patienceMs && !this.#isComing(stripe, oldest, now)) {
        const next = this.#nextLevel(stripe, oldest)
        const isWeb = next === stripe.line.length
        // Nobody before us has it yet, and they get on: we are ahead of them, as who comes back to a line may be.
        if (isWeb && this.#isMoving(stripe)) return
        const steps = Math.min(stripe.depth, limits.webPatienceStepsMax)
        const patienceMs = isWeb
          ? limits.webPatienceMs * this.#patience * Math.max(1, steps) + this.#jitterMs
          : this.#patienceMs * (next - stripe.level)
        const usualMs = Math.max(2 * Math.min(stripe.gapMs, this.#gapMsMax), this.#deliveryMs(source))
        if (waitedMs > patienceMs + usualMs) {
          const isBehind = !hasPiece(source, oldest)
          if (!isBehind || now - stripe.routedAt > limits.settleMs) this.#complain(id)
          this.#moveTo(stripe, next, now)
          stripe.wasBehind = isBehind
          return
        }
      }
    }
    if (stripe.level > 0) this.#tryToReturn(stripe, oldest, now)
  }

  /**
   * Nothing comes, though the source has it or everybody before us was given the time to mend that. All behind a break see
   * it at once: if all asked around, whoever is ahead would send each piece to each of them, and to who should pass it on last.
   */
  #isAtBreak(stripe: Stripe, oldest: number, now: number): boolean {
    const source = this.#primaryOf(stripe)
    const isOurs = source === undefined || hasPiece(source, oldest)
    const steps = isOurs ? 1 : 1 + Math.min(stripe.depth, limits.webPatienceStepsMax)
    return starvedMs(stripe, now) > this.#patienceMs * steps && !this.#isComing(stripe, oldest, now)
  }

  get #patienceMs(): number {
    return limits.patienceMs * this.#patience
  }

  get #gapMsMax(): number {
    return limits.gapMsMax * this.#patience
  }

  #isMoving({ line }: Stripe): boolean {
    return line.some((id) => (this.#sources.get(id)?.gained ?? 0) > 0)
  }

  /** How long what is outstanding there takes at the pace at which we got on last: longer than patience for whose own link is slow. */
  #deliveryMs(source: Source): number {
    if (this.#paceSeen === 0) return 0
    return Math.min(2 * this.#gapMsMax, (source.asked.size * this.#paceMs) / this.#paceSeen)
  }

  /** The next source down the line: one that has the piece, if one is named. The line's length means the web seed. */
  #nextLevel(stripe: Pick<Stripe, 'line' | 'level'>, piece: number | undefined): number {
    for (let level = stripe.level + 1; level < stripe.line.length; level++) {
      const source = this.#sources.get(stripe.line[level] ?? '')
      if (source !== undefined && (piece === undefined || hasPiece(source, piece))) return level
    }
    return stripe.line.length
  }

  #tryToReturn(stripe: Stripe, oldest: number, now: number): void {
    const first = this.#sources.get(stripe.line[0] ?? '')
    const hasCaughtUp = stripe.wasBehind && first !== undefined && hasPiece(first, oldest)
    if (now - stripe.levelSince <= stripe.returnMs * (hasCaughtUp ? limits.returnSoonPart : 1)) return
    // One that is behind us is asked again too, if it gets on as we do: who passes us over feeds two now.
    const canFeed =
      first !== undefined &&
      (hasPiece(first, oldest) || (first.gained > 0 && first.gained >= limits.returnPart * this.#pace))
    if (!canFeed) return
    stripe.returnMs = Math.min(stripe.returnMs * 2, limits.returnMsMax)
    this.#moveTo(stripe, 0, now)
  }

  /** Asks another source from now on, also for what was asked of the last one. */
  #moveTo(stripe: Stripe, level: number, now: number): void {
    if (stripe.level === 0 && now - stripe.levelSince > limits.returnMsMax) stripe.returnMs = limits.returnMs
    const last = this.#primaryOf(stripe)
    stripe.level = level
    stripe.levelSince = now
    stripe.wasBehind = false
    stripe.former = undefined
    stripe.trial = undefined
    if (last !== undefined && last !== this.#primaryOf(stripe)) this.#takeBack(stripe, last)
  }

  /** Cancels what was asked of the source for this stripe. */
  #takeBack(stripe: Stripe, source: Source): void {
    for (const piece of source.asked.keys()) {
      if (this.#stripeOf(piece) === stripe) this.#cancel(source, piece)
    }
  }

  /** Notes how fast everybody got on since the last time. */
  #comparePace(now: number): void {
    if (now - this.#paceAt < this.#paceMs) return
    const before = this.#pace
    this.#pace = this.#here - this.#hereThen
    this.#paceBest = Math.max(this.#paceBest, this.#pace)
    if (this.#pace > 0) this.#paceSeen = Math.max(before, this.#pace)
    this.#hereThen = this.#here
    this.#paceAt = now
    this.#learnPatience()
    let most = this.#paceBest
    for (const source of this.#sources.values()) {
      // What one that is new to us held already, nobody saw it gain.
      source.gained = source.countThen === 0 ? 0 : source.count - source.countThen
      source.gainedBest = Math.max(source.gainedBest, source.gained)
      source.countThen = source.count
      most = Math.max(most, source.gained)
    }
    for (const stripe of this.#stripes) this.#noteEdge(stripe)
    if (most >= limits.pacePiecesMin) for (const stripe of this.#stripes) this.#tryNext(stripe, now)
    else if (this.#pace > 0) this.#paceMs = Math.min(this.#paceMs * 2, limits.paceMsMax)
  }

  /**
   * What comes twice was on its way when another was asked for it. Where a link is shared by more than it can carry, everything
   * is late, and whoever asks again makes it later for all: each time twice as much patience, which wears off slowly, as TCP
   * does with a timer that has fired in vain (RFC 6298 5.5, RFC 5682).
   */
  #learnPatience(): void {
    const isHasty = this.#again > limits.againPart * this.#pace
    this.#patience = isHasty
      ? Math.min(this.#patience * 2, limits.patienceTimesMax)
      : Math.max(1, this.#patience * limits.patienceKept)
    this.#again = 0
  }

  /**
   * When somebody before our source is ahead and gets on much faster than we do, it is asked instead, if that lasts: those
   * in between see the same and are given the time to mend it first. Before the head stands the web seed, of whose pace nobody
   * tells: it is asked when ours has fallen far below what it was.
   */
  #tryNext(stripe: Stripe, now: number): void {
    const { line, level } = stripe
    // Who has asked for nothing, for want of room, is not held up by its source.
    const isHeldUp =
      (this.#sources.get(line[level] ?? '')?.asked.size ?? 0) > 0 && !this.#isComing(stripe, this.#oldest(stripe), now)
    const found = isHeldUp && stripe.trial === undefined && now >= stripe.noTrialUntil && this.#faster(stripe)
    if (!found) {
      stripe.slowTimes = 0
      return
    }
    stripe.slowTimes += 1
    const isWeb = found.level === line.length
    const times = isWeb ? limits.slowTimesBeforeWeb : limits.slowTimes * (found.level - level)
    if (stripe.slowTimes < times) return
    stripe.slowTimes = 0
    this.#moveTo(stripe, found.level, now)
    stripe.trial = { since: now, from: level, fair: found.fair }
  }

  /** The nearest one up the line that is ahead of us and gets on much faster, and how fast. */
  #faster({ line, level, wasAtEdge, edgeBest }: Stripe): Faster | undefined {
    for (let above = level + 1; above <= line.length; above++) {
      const isWeb = above === line.length
      // Past everybody who is as slow as we are, only the next to the head asks the web seed.
      if (isWeb && level + 1 < line.length) return undefined
      const other = isWeb ? this.#webSeed() : this.#sources.get(line[above] ?? '')
      if (other === undefined) continue
      const isAhead = other.count - this.#here > Math.max(2 * limits.windowPiecesMin, other.gained / 2)
      // Who has everything gets on no more, and can give at the pace at which it did.
      const own = wasAtEdge ? edgeBest : this.#paceBest
      const fair = other.count < this.#needed ? other.gained : Math.max(other.gainedBest, own)
      const slowPart = isWeb ? limits.slowPartBeforeWeb : limits.slowPart
      if (isAhead && this.#pace < slowPart * fair) return { level: above, fair }
    }
    return undefined
  }

  /** Notes whether we have all that our source has, and how fast we get on then. */
  #noteEdge(stripe: Stripe): void {
    const source = this.#sources.get(stripe.line[stripe.level] ?? '')
    const isAtEdge = source !== undefined && source.count - this.#here <= Math.max(limits.edgePieces, this.#pace / 2)
    if (isAtEdge && stripe.wasAtEdge) stripe.edgeBest = Math.max(stripe.edgeBest, this.#pace)
    stripe.wasAtEdge = isAtEdge
  }

  #judgeTrial(stripe: Stripe, now: number): void {
    const { trial } = stripe
    if (trial === undefined || now - trial.since < limits.trialMs + this.#paceMs) return
    stripe.trial = undefined
    const left = stripe.line[trial.from]
    // Where the source is slow, the one before it has all but little of its link for us; where it only stood still for a
    // moment, the two of us now share that.
    const source = this.#primaryOf(stripe)
    const fair = source !== undefined && source.gained > 0 ? source.gained : trial.fair
    if (this.#pace >= limits.trialPart * fair) {
      // Only now is it known that the source is slow, and not our own link. The tracker will find us another one.
      if (left !== undefined) this.#complain(left)
      return
    }
    stripe.noTrialUntil = now + stripe.trialPauseMs
    stripe.trialPauseMs = Math.min(stripe.trialPauseMs * 2, limits.trialPauseMsMax)
    this.#moveTo(stripe, trial.from, now)
  }

  #complain(source: string): void {
    if (this.#complaints.size < limits.complaintsMax) this.#complaints.add(source)
  }

  #cancel(source: Source, piece: number): void {
    const last = this.#asks.at(-1)
    if (last?.kind === 'cancel' && last.source === source.id) {
      this.#asks[this.#asks.length - 1] = { ...last, pieces: [...last.pieces, piece] }
    } else this.#asks.push({ kind: 'cancel', source: source.id, pieces: [piece] })
    this.#unask(source, piece)
  }

  #unask(source: Source, piece: number): void {
    if (!this.#settle(source, piece)) return
    if (this.#status[piece] === asked && this.#askedOf[piece] === 0) this.#missing(piece)
  }

  /** Nothing is expected of the source any more for this piece. False when nothing was. */
  #settle(source: Source, piece: number): boolean {
    if (!source.asked.delete(piece)) return false
    if (hasPiece(source, piece)) source.askedHeld -= 1
    this.#countAsked(piece, -1)
    return true
  }

  #missing(piece: number): void {
    if (this.#status[piece] === arrived || this.#status[piece] === verified) this.#here -= 1
    this.#status[piece] = missing
    const stripe = this.#stripeOf(piece)
    if (stripe !== undefined && piece < stripe.low) stripe.low = piece
  }

  #countAsked(piece: number, by: number): void {
    this.#askedOf[piece] = (this.#askedOf[piece] ?? 0) + by
    this.#outstanding += by
  }
}
