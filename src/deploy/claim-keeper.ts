// Keeps the claims of one engine alive as long as it works, gives up the work on those that are lost, and frees those of engines
// that are dead (db/claims.ts says when that is).
import { beatEveryMs, type Claim, freeClaim, keepClaims, listClaims, silentMs } from '../db/claims.ts'
import type { Context } from './context.ts'

/** Well before others free a claim that is not kept alive. */
const giveUpMs = silentMs - beatEveryMs

export type ClaimKeeper = {
  /** How many claims are being worked on. */
  readonly count: () => number
  /** Works on a claim; `work` ends soon when its signal aborts. Never rejects. */
  keep(id: number, work: (signal: AbortSignal) => Promise<void>): Promise<void>
  /** Counts the claims up, and gives up the work on those that others have freed. */
  beat(): Promise<void>
  /** Gives up all work when the claims could not be kept alive for too long: others are about to take it. */
  watch(): void
  /** Frees the claims of the dead. */
  relieve(): Promise<void>
  /** Gives up all work; resolves when none is under way. */
  stop(reason: Error): Promise<void>
}

type Work = { readonly losing: AbortController; ended: Promise<void> }

export function claimKeeper({ db, log, monotonic, owner }: Context): ClaimKeeper {
  const working = new Map<number, Work>()
  const seen = new Map<number, Claim & { readonly sinceMs: number }>()
  let keptAt = monotonic()
  const giveUp = (reason: Error): void => {
    for (const { losing } of working.values()) losing.abort(reason)
  }
  return {
    count: () => working.size,

    async keep(id, work) {
      if (working.size === 0) keptAt = monotonic()
      const losing = new AbortController()
      const mine: Work = { losing, ended: Promise.resolve() }
      working.set(id, mine)
      mine.ended = work(losing.signal).finally(() => working.delete(id))
      await mine.ended
    },

    async beat() {
      const ids = [...working.keys()]
      const atMs = monotonic()
      const kept = await keepClaims(db, owner, ids)
      keptAt = atMs
      for (const id of ids) if (!kept.has(id)) working.get(id)?.losing.abort(new Error('the claim was lost'))
    },

    watch() {
      if (monotonic() - keptAt >= giveUpMs) giveUp(new Error('the claims could not be kept alive'))
    },

    async relieve() {
      const claims = await listClaims(db)
      const held = new Set(claims.map(({ id }) => id))
      for (const id of seen.keys()) if (!held.has(id)) seen.delete(id)
      for (const claim of claims) {
        if (claim.owner === owner && working.has(claim.id)) continue
        const before = seen.get(claim.id)
        const stands = before?.owner === claim.owner && before.beat === claim.beat
        if (!stands) seen.set(claim.id, { ...claim, sinceMs: monotonic() })
        else if (monotonic() - before.sinceMs >= silentMs && (await freeClaim(db, claim))) {
          log.warn({ deployment: claim.id, engine: claim.owner }, 'an engine is dead: its work is taken over')
        }
      }
    },

    async stop(reason) {
      giveUp(reason)
      await Promise.all([...working.values()].map(({ ended }) => ended))
    },
  }
}
