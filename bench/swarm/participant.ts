// A process that takes part in a run. Whatever its program is, it speaks lines: it writes `ready` when it idles at the gate,
// reads `go` (and, our own program, `corrupt`), writes `last` when it has the last byte and `durable` when the file is on
// its disk. So the clocks of all methods start and stop alike, here.
import { spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { inNamespace } from '../../lab/network.ts'
import { until } from '../../src/lib/until.ts'

export type ParticipantOptions = {
  readonly name: string
  readonly namespace: string
  readonly command: readonly string[]
  readonly folder: string
  /** Where its messages go. */
  readonly log: string
}

export type Participant = {
  readonly name: string
  readonly pid: number
  /** Of performance.now(); undefined as long as it has not come. */
  readonly at: { ready?: number; last?: number; durable?: number; ended?: number }
  /** Its last `stats {json}` line. */
  stats: string | undefined
  tell(line: string): void
}

/** Starts it as the head of a process group, so that it ends with all that it starts. */
export async function startParticipant(options: ParticipantOptions): Promise<Participant> {
  const [program = '', ...words] = inNamespace(options.namespace, options.command)
  const child = spawn(program, words, { cwd: options.folder, detached: true })
  child.stderr.pipe(createWriteStream(options.log, { flags: 'a' }))
  await new Promise<void>((resolve, reject) => child.once('spawn', resolve).once('error', reject))
  const { pid } = child
  if (pid === undefined) throw new Error(`${options.name} has no process id`)
  const at: Participant['at'] = {}
  const participant: Participant = {
    name: options.name,
    pid,
    at,
    stats: undefined,
    tell: (line) => child.stdin.write(`${line}\n`),
  }
  // One that was killed does not read what we tell it.
  child.stdin.on('error', () => {})
  child.once('exit', () => {
    at.ended = performance.now()
  })
  createInterface({ input: child.stdout }).on('line', (line) => {
    const word = line.trim()
    if (word === 'ready' || word === 'last' || word === 'durable') at[word] ??= performance.now()
    if (word.startsWith('stats ')) participant.stats = word.slice('stats '.length)
  })
  return participant
}

// 72 processes of a second each on two cores that others use too.
const readyMsMax = 180_000

/** Waits until all idle at the gate. Throws with the end of its log when one ends before. */
export async function untilReady(
  participants: readonly Participant[],
  logOf: (name: string) => string,
  signal: AbortSignal,
): Promise<void> {
  let ended: Participant | undefined
  await until(
    'every process to be ready',
    () => {
      ended = participants.find(({ at }) => at.ended !== undefined && at.ready === undefined)
      return ended !== undefined || participants.every(({ at }) => at.ready !== undefined)
    },
    { timeoutMs: readyMsMax, everyMs: 20, signal },
  )
  if (ended === undefined) return
  const log = await readFile(logOf(ended.name), 'utf8').catch(() => '')
  throw new Error(`${ended.name} ended before it was ready:\n${log.slice(-2000)}`)
}

/** Kills its process group and waits until it is gone. What outlives the head of its group ends with the namespace. */
export async function endParticipant({ name, pid, at }: Participant): Promise<void> {
  await until(
    `${name} to end`,
    () => {
      if (at.ended !== undefined) return true
      try {
        process.kill(-pid, 'SIGKILL')
      } catch {
        // It has ended, which we are about to hear.
      }
      return false
    },
    { timeoutMs: 10_000, everyMs: 20 },
  )
}

const ticksPerSecond = 100

/** Seconds of processor that each of these process groups has used so far, ended and awaited children included. */
export async function cpuSecondsOf(groups: ReadonlySet<number>): Promise<ReadonlyMap<number, number>> {
  const seconds = new Map<number, number>()
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const stat = await readFile(`/proc/${name}/stat`, 'latin1').catch(() => '') // It may have ended by now.
    // proc(5): behind the name come state, parent and group; utime, stime, cutime and cstime are fields 14 to 17.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const group = Number(fields[2])
    if (!groups.has(group)) continue
    const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0)
    seconds.set(group, (seconds.get(group) ?? 0) + ticks / ticksPerSecond)
  }
  return seconds
}

/** Seconds that all processors were busy, and seconds in all, since the machine started. */
export async function machineSeconds(): Promise<{ readonly busy: number; readonly all: number }> {
  const [line = ''] = (await readFile('/proc/stat', 'latin1')).split('\n')
  const fields = line.trim().split(/\s+/).slice(1, 9).map(Number)
  const all = fields.reduce((sum, field) => sum + field, 0)
  const idle = (fields[3] ?? 0) + (fields[4] ?? 0)
  return { busy: (all - idle) / ticksPerSecond, all: all / ticksPerSecond }
}
