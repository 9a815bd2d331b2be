// Part two: the real scheduler and the real tracker under a virtual clock, for more hosts than namespaces could hold. Racks
// behind up-links that carry a part of what their hosts could, sites behind a WAN (simulate.ts).
import { type Outcome, simulate } from './simulate.ts'

export type VirtualOptions = {
  readonly nodes: number
  readonly pieces: number
  readonly seed: number
}

export type VirtualResult = {
  readonly method: 'virtual'
  readonly n: number
  readonly run: number
  readonly pieces: number
  readonly limit_s: number
  readonly median_s: number
  readonly last_s: number
  readonly eff_median: number
  readonly eff_last: number
  readonly origin_copies: number
  readonly rack_copies_max: number
  readonly site_copies_max: number
  readonly depth_max: number
}

/** 1 GbE, racks of 40 at 20:1, sites of 50 racks with 2 Gbit/s and 10 ms between them. */
const world = {
  linkBytesPerSecond: 117.5e6,
  originBytesPerSecond: 117.5e6,
  rackSize: 40,
  rackOversubscription: 20,
  racksPerSite: 50,
  wanBytesPerSecond: 235e6,
  latencyMs: 0.2,
  wanLatencyMs: 10,
  startSpreadMs: 100,
}
const pieceBytes = 1024 * 1024

export function runVirtual({ nodes, pieces, seed }: VirtualOptions): VirtualResult {
  const outcome = simulate({ ...world, geometry: { totalBytes: pieces * pieceBytes, pieceBytes }, nodes, seed })
  return resultOf(outcome, { nodes, pieces, seed })
}

function resultOf(outcome: Outcome, { nodes, pieces, seed }: VirtualOptions): VirtualResult {
  const part = (ms: number) => Number((outcome.limitMs / ms).toFixed(4))
  const copies = (value: number) => Number(value.toFixed(3))
  const seconds = (ms: number) => Number((ms / 1000).toFixed(3))
  return {
    method: 'virtual',
    n: nodes,
    run: seed,
    pieces,
    limit_s: seconds(outcome.limitMs),
    median_s: seconds(outcome.medianMs),
    last_s: seconds(outcome.lastMs),
    eff_median: part(outcome.medianMs),
    eff_last: part(outcome.lastMs),
    origin_copies: copies(outcome.originCopies),
    rack_copies_max: copies(outcome.rackCopiesMax),
    site_copies_max: copies(outcome.siteCopiesMax),
    depth_max: outcome.depthMax,
  }
}
