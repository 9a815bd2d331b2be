// `make bench-swarm`: measures how an image reaches N nodes by each method, each run in a network of its own.
import { readdir, readFile, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type BenchOptions, benchHelp, parseArguments } from './arguments.ts'
import { chooseVictims } from './faults.ts'
import { type PublishedImage, publishImage } from './image.ts'
import { mebibyte } from './limit.ts'
import { loopbackMethods, runLoopback } from './loopback.ts'
import { originBase } from './methods.ts'
import { destroyNetwork, ownPrefix, prefixesOfDeadRuns } from './network.ts'
import { plotRuns } from './plot.ts'
import { type RunResult, runMethod } from './run.ts'
import { stockAnnounce } from './stock.ts'
import { runVirtual } from './virtual.ts'

const words = process.argv.slice(2)
if (words.includes('--help')) console.log(benchHelp)
else await main(words)

async function main(words: readonly string[]): Promise<void> {
  let options: BenchOptions
  try {
    options = parseArguments(words)
    for (const nodes of options.nodes) chooseVictims(options.faults, nodes, options.seed)
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${benchHelp}`)
    process.exitCode = 2
    return
  }
  if (options.virtual.length > 0) {
    runVirtuals(options)
    return
  }
  if (options.isLoopback) {
    await inPlace(options, (place) => runLoopbacks(options, place))
    return
  }
  const results =
    options.from === undefined
      ? await inPlace(options, (place) => runEach(options, place))
      : await readResults(options.from)
  if (!options.asJson) console.log(tableOf(results, options.isVerbose))
  if (options.plot !== undefined) await writeFile(options.plot, plotRuns(results))
}

function runVirtuals({ virtual, virtualPieces: pieces, runs, seed, asJson }: BenchOptions): void {
  for (const nodes of virtual) {
    for (let run = 0; run < runs; run++) {
      const result = runVirtual({ nodes, pieces, seed: seed + run })
      console.log(asJson ? JSON.stringify(result) : result)
    }
  }
}

async function readResults(file: string): Promise<RunResult[]> {
  const lines = (await readFile(file, 'utf8')).split('\n').filter((line) => line.startsWith('{'))
  // Lines that this program wrote with --json.
  return lines.map((line) => JSON.parse(line) as RunResult)
}

/** Makes the image, and takes everything away again when `work` has ended. */
async function inPlace<T>(options: BenchOptions, work: (place: Place) => Promise<T>): Promise<T> {
  if (process.getuid?.() !== 0) throw new Error('the bench makes network namespaces, which takes root: run it as root')
  const prefix = await ownPrefix()
  const folder = join(options.dir, prefix)
  await removeLeftovers(options.dir)
  await requireSpace(options)
  const interrupted = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => interrupted.abort(new Error(`ended by ${name}`)))
  }
  try {
    const image = await publishImage(join(folder, 'library'), {
      mib: options.mib,
      seed: options.seed,
      stockPieceBytes: options.stockPieceKib * 1024,
      originBase,
      stockAnnounce,
    })
    return await work({ prefix, folder, image, signal: interrupted.signal })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

type Place = {
  readonly prefix: string
  readonly folder: string
  readonly image: PublishedImage
  readonly signal: AbortSignal
}

/** Run by run through all methods, so that what disturbs the machine for a while disturbs all of them. */
async function runEach(options: BenchOptions, place: Place): Promise<RunResult[]> {
  const results: RunResult[] = []
  for (const nodes of options.nodes) {
    for (let run = 1; run <= options.runs; run += 1) {
      for (const method of options.methods) {
        const folder = join(place.folder, 'run')
        let result: RunResult
        try {
          result = await runMethod({ ...options, ...place, folder, method, nodes, run, onProgress: tell })
        } catch (error) {
          place.signal.throwIfAborted()
          // The other methods are measured all the same.
          console.error(`${method} N=${nodes} run ${run} failed:`, error)
          process.exitCode = 1
          continue
        }
        results.push(result)
        if (options.asJson) console.log(JSON.stringify(options.isVerbose ? result : { ...result, nodes: undefined }))
      }
    }
  }
  return results
}

async function runLoopbacks(options: BenchOptions, place: Place): Promise<void> {
  if (!options.asJson) console.log('method        in MB/s  out MB/s  CPU s/GB  busy')
  for (let run = 1; run <= options.runs; run += 1) {
    for (const method of loopbackMethods) {
      if (!options.methods.includes(method)) continue
      const result = await runLoopback({ ...options, ...place, folder: join(place.folder, 'run'), method, run })
      const { in_mb_s, out_mb_s, cpu_s_per_gb, machine_busy } = result
      const cells = [String(in_mb_s).padStart(7), String(out_mb_s).padStart(8), cpu_s_per_gb.toFixed(2).padStart(8)]
      const row = [method.padEnd(12), ...cells, percent(machine_busy)].join('  ')
      console.log(options.asJson ? JSON.stringify(result) : row)
    }
  }
}

function tell(line: string): void {
  process.stderr.write(process.stderr.isTTY ? `\r\x1b[K${line}` : `${line}\n`)
}

/** What runs have left behind whose process was killed. */
async function removeLeftovers(dir: string): Promise<void> {
  for (const prefix of await prefixesOfDeadRuns([
    ...(await readdir('/run/netns').catch(() => [])),
    ...(await readdir(dir)),
  ])) {
    await destroyNetwork(prefix)
    await rm(join(dir, prefix), { recursive: true, force: true })
  }
}

/** The image and a copy for every node, and a tenth for all else. */
async function requireSpace({ dir, mib, nodes, isLoopback }: BenchOptions): Promise<void> {
  const { bavail, bsize } = await statfs(dir)
  const needed = Math.ceil(mib * (isLoopback ? 3 : Math.max(...nodes) + 1) * 1.1)
  const free = Math.floor((bavail * bsize) / mebibyte)
  if (free < needed) throw new Error(`${dir} has ${free} MiB free, the copies take ${needed}: choose another --dir`)
}

function tableOf(results: readonly RunResult[], isVerbose: boolean): string {
  const head = ['method', 'N', 'limit s', 'median s', 'last s', 'median', 'last', 'durable s', 'copies', 'done', 'busy']
  const rows = results.map((result) => [
    result.method,
    `${result.n}`,
    result.limit_s.toFixed(1),
    seconds(result.median_s),
    seconds(result.last_s),
    percent(result.eff_median),
    percent(result.eff_last),
    seconds(result.durable_last_s),
    result.origin_copies.toFixed(2),
    `${result.finished}/${result.n}`,
    percent(result.machine_busy),
  ])
  const withOthers = results.some(({ others_last_s }) => others_last_s !== undefined)
  if (withOthers) {
    head.push('others s')
    for (const [index, row] of rows.entries()) row.push(seconds(results[index]?.others_last_s ?? null))
  }
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)))
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ')
  const text = [line(head), ...rows.map(line)]
  return [...text, ...(isVerbose ? results.flatMap(nodesOf) : [])].join('\n')
}

function nodesOf({ method, n, run, nodes = [] }: RunResult): string[] {
  const times = nodes.map(
    ({ node, last_s, durable_s, fault }) =>
      `  node ${node}: last ${seconds(last_s)}, durable ${seconds(durable_s)}${fault === undefined ? '' : ` (${fault})`}`,
  )
  return ['', `${method} N=${n} run ${run}`, ...times]
}

function seconds(value: number | null): string {
  return value === null ? '-' : value.toFixed(1)
}

function percent(value: number | null): string {
  return value === null ? '-' : `${(value * 100).toFixed(1)} %`
}
