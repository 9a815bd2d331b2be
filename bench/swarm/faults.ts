// What goes wrong in a run, by rule: `kind:nodes[@when][:parameter]`, as `kill:10%@30%` or `slow:5%@15s:0.1`. Which nodes is
// decided by a seeded generator, so a run can be repeated; no node is the victim of two rules.

/** When: so many seconds after the gate, or once the median node has received such a share of the image. */
export type Moment = { readonly seconds: number } | { readonly share: number }

export type Fault = { readonly text: string; readonly nodes: Amount; readonly at: Moment } & (
  | { readonly kind: 'kill' | 'late' | 'corrupt' | 'cut' }
  | { readonly kind: 'slow'; readonly factor: number }
  | { readonly kind: 'delay'; readonly delayMs: number }
)

/** A number of nodes, or a share of all of them. */
type Amount = { readonly count: number } | { readonly share: number }

export const faultHelp = `kill:10%@30%      SIGKILL for a tenth of the nodes once the median node has 30 %
slow:5%@15s:0.1   their links at a tenth of the rate, both ways, from 15 s on
late:20%@10s      they start 10 s after the others
cut:1@20s         the switch forgets that node's port; nobody is told
delay:10%:50ms    their packets come 50 ms later, both ways, from the start
corrupt:1@0s      that node sends corrupt pieces (method swarm)`

/** Reads a rule. Throws an Error that shows how rules look. */
export function parseFault(text: string): Fault {
  const match = /^(?<kind>[a-z]+):(?<nodes>\d+(?:\.\d+)?%?)(?:@(?<at>\d+(?:\.\d+)?(?:s|%)))?(?::(?<rest>.+))?$/.exec(
    text,
  )
  const { kind, nodes, at, rest } = match?.groups ?? {}
  if (nodes === undefined) throw wrong(text)
  const common = {
    text,
    nodes: parseAmount(text, nodes),
    at: at === undefined ? { seconds: 0 } : parseMoment(text, at),
  }
  if (kind === 'slow') {
    const factor = Number(rest)
    if (!(factor > 0 && factor < 1)) throw wrong(text)
    return { ...common, kind, factor }
  }
  if (kind === 'delay') {
    const delayMs = Number(/^(\d+)ms$/.exec(rest ?? '')?.[1])
    if (!(delayMs > 0 && delayMs <= delayMsMax) || at !== undefined) throw wrong(text)
    return { ...common, kind, delayMs }
  }
  if (rest !== undefined || (kind !== 'kill' && kind !== 'late' && kind !== 'corrupt' && kind !== 'cut'))
    throw wrong(text)
  if (kind === 'late' && !('seconds' in common.at)) throw wrong(text)
  return { ...common, kind }
}

const delayMsMax = 10_000

function parseAmount(text: string, amount: string): Amount {
  const value = Number.parseFloat(amount)
  if (amount.endsWith('%')) {
    if (value <= 0 || value > 100) throw wrong(text)
    return { share: value / 100 }
  }
  if (!Number.isInteger(value) || value < 1) throw wrong(text)
  return { count: value }
}

function parseMoment(text: string, at: string): Moment {
  const value = Number.parseFloat(at)
  if (at.endsWith('s')) return { seconds: value }
  if (value > 100) throw wrong(text)
  return { share: value / 100 }
}

function wrong(text: string): Error {
  return new Error(`the fault ${JSON.stringify(text)} is not one of the form\n${faultHelp}`)
}

/** The nodes each rule hits: at least one, none twice. Throws an Error when there are not enough nodes. */
export function chooseVictims(
  faults: readonly Fault[],
  nodes: number,
  seed: number,
): ReadonlyMap<Fault, readonly number[]> {
  const random = generator(seed)
  const left = Array.from({ length: nodes }, (_, index) => index)
  return new Map(
    faults.map((fault) => {
      const wanted = 'count' in fault.nodes ? fault.nodes.count : Math.max(1, Math.round(fault.nodes.share * nodes))
      if (wanted > left.length) throw new Error(`too few nodes: ${fault.text} hits ${wanted}, ${left.length} are left`)
      const victims = Array.from({ length: wanted }, () => left.splice(Math.floor(random() * left.length), 1)).flat()
      return [fault, victims.sort((a, b) => a - b)]
    }),
  )
}

/** Whether the moment has come. */
export function isDue(at: Moment, now: { readonly seconds: number; readonly medianShare: number }): boolean {
  return 'seconds' in at ? now.seconds >= at.seconds : now.medianShare >= at.share
}

/** Numbers from 0 to 1. Mulberry32: small, and the same on every machine. */
export function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
