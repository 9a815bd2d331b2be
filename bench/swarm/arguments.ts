// The arguments of the bench.
import { parseArgs } from 'node:util'
import { type Fault, faultHelp, parseFault } from './faults.ts'

export const methodNames = [
  'swarm',
  'http',
  'http-node',
  'aria2-paper',
  'aria2-tuned',
  'aria2-swarm',
  'libtorrent',
] as const
export type MethodName = (typeof methodNames)[number]

export type BenchOptions = {
  readonly nodes: readonly number[]
  readonly methods: readonly MethodName[]
  readonly mib: number
  readonly mbit: number
  readonly runs: number
  readonly asJson: boolean
  readonly isVerbose: boolean
  readonly plot: string | undefined
  /** JSON lines of earlier runs to plot or show, instead of running. */
  readonly from: string | undefined
  /** Where the images lie; a folder of the run is made in it. */
  readonly dir: string
  readonly diskMbit: number | undefined
  readonly faults: readonly Fault[]
  readonly seed: number
  readonly limitFactor: number
  /** A run ends when the nodes that no fault hits have finished. */
  readonly endsWithOthers: boolean
  /** The nodes' gates open within so long, at moments that the seed decides. */
  readonly skewS: number
  readonly stockPieceKib: number
  readonly congestion: string
  readonly isLoopback: boolean
  /** Numbers of simulated hosts, and pieces of their image. */
  readonly virtual: readonly number[]
  readonly virtualPieces: number
}

export const nodesMax = 500
const virtualNodesMax = 20_000
const gibMax = 1024

export const benchHelp = `make bench-swarm ARGS="..."
  --nodes 1,2,4,8        numbers of nodes, one after the other (16)
  --methods a,b          of ${methodNames.join(', ')} (all but http-node)
  --mib 96               size of the image
  --mbit 16              rate of every link, both ways
  --runs 1               runs of each
  --json                 a JSON line for each run, not a table
  --verbose              with the times of every node
  --plot FILE.svg        rate per node against N, with the limit
  --from FILE            JSON lines of earlier runs instead of running
  --dir /dev/shm         where image and copies lie; on a disk, "durable" is what fdatasync says
  --disk-mbit 8          the node's writer held to this rate (methods swarm and http-node)
  --fault RULE           may be given several times:
${faultHelp.replaceAll(/^/gm, '                         ')}
  --others               end a run when the nodes that no fault hits have finished
  --seed 1               of the choice of these nodes, and of the image
  --skew 0               the gates of the nodes open within so many seconds; the clock is that of the first moment
  --limit-factor 25      a run is stopped after so many times the limit
  --stock-piece-kib 256  pieces of the stock clients' torrent
  --congestion cubic     TCP's congestion control on all nodes
  --virtual 1000,10000   part two: so many hosts under a virtual clock, in racks and sites; --runs and --json hold
  --pieces 2048          of their image, a MiB each
  --loopback             part three: one agent between a seeder and a leecher on loopback, 1 GiB unless --mib`

/** Throws an Error with a sentence for the person who typed them. */
export function parseArguments(words: readonly string[]): BenchOptions {
  const { values } = parseArgs({
    args: [...words],
    options: {
      nodes: { type: 'string', default: '16' },
      methods: { type: 'string' },
      mib: { type: 'string' },
      mbit: { type: 'string', default: '16' },
      runs: { type: 'string', default: '1' },
      json: { type: 'boolean', default: false },
      verbose: { type: 'boolean', default: false },
      plot: { type: 'string' },
      from: { type: 'string' },
      dir: { type: 'string', default: '/dev/shm' },
      'disk-mbit': { type: 'string' },
      fault: { type: 'string', multiple: true, default: [] },
      others: { type: 'boolean', default: false },
      seed: { type: 'string', default: '1' },
      skew: { type: 'string', default: '0' },
      'limit-factor': { type: 'string', default: '25' },
      'stock-piece-kib': { type: 'string', default: '256' },
      congestion: { type: 'string', default: 'cubic' },
      loopback: { type: 'boolean', default: false },
      virtual: { type: 'string' },
      pieces: { type: 'string', default: '2048' },
    },
  })
  const diskMbit = values['disk-mbit']
  const methods =
    values.methods === undefined ? methodNames.filter((name) => name !== 'http-node') : methodsOf(values.methods)
  const faults = values.fault.map(parseFault)
  if (faults.some(({ kind }) => kind === 'corrupt') && methods.some((name) => name !== 'swarm')) {
    throw new Error('only nodes of the method swarm can be told to send corrupt pieces')
  }
  return {
    nodes: values.nodes.split(',').map((text) => wholeNumber('--nodes', text, 1, nodesMax)),
    methods,
    mib: wholeNumber('--mib', values.mib ?? (values.loopback ? '1024' : '96'), 1, gibMax * 1024),
    mbit: positive('--mbit', values.mbit),
    runs: wholeNumber('--runs', values.runs, 1, 100),
    asJson: values.json,
    isVerbose: values.verbose,
    plot: values.plot,
    from: values.from,
    dir: values.dir,
    diskMbit: diskMbit === undefined ? undefined : positive('--disk-mbit', diskMbit),
    faults,
    seed: wholeNumber('--seed', values.seed, 0, 2 ** 32 - 1),
    limitFactor: positive('--limit-factor', values['limit-factor']),
    skewS: skewOf(values.skew),
    endsWithOthers: values.others,
    stockPieceKib: wholeNumber('--stock-piece-kib', values['stock-piece-kib'], 16, 16 * 1024),
    congestion: word('--congestion', values.congestion),
    isLoopback: values.loopback,
    virtual: (values.virtual?.split(',') ?? []).map((text) => wholeNumber('--virtual', text, 1, virtualNodesMax)),
    virtualPieces: wholeNumber('--pieces', values.pieces, 1, 100_000),
  }
}

function methodsOf(text: string): MethodName[] {
  return text.split(',').map((wanted) => {
    const name = methodNames.find((name) => name === wanted)
    if (name === undefined) throw new Error(`--methods: there is no ${wanted}; there are ${methodNames.join(', ')}`)
    return name
  })
}

function wholeNumber(option: string, text: string, min: number, max: number): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isInteger(value) || value < min || value > max) {
    throw new Error(`${option} takes a whole number from ${min} to ${max}, not ${JSON.stringify(text)}`)
  }
  return value
}

function positive(option: string, text: string): number {
  const value = Number(text)
  if (!(value > 0) || !Number.isFinite(value)) throw new Error(`${option} takes a number above 0, not ${text}`)
  return value
}

function skewOf(text: string): number {
  return text === '0' ? 0 : positive('--skew', text)
}

function word(option: string, text: string): string {
  if (!/^[a-z0-9_]+$/.test(text)) throw new Error(`${option} takes a name, not ${JSON.stringify(text)}`)
  return text
}
