// Processes that outlive the program that started them: recorded as "pid start-time" in a file, so that a later program
// ends exactly those and never a stranger who was given the same id.
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { until } from '../src/lib/until.ts'

export type RecordedProcess = { readonly pid: number; readonly startTime: string }

/** The start time of a living process in clock ticks since boot (proc(5), field 22); undefined when there is none. */
export async function startTimeOf(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => undefined)
  // The name in field 2 may hold blanks and brackets; the last bracket ends it.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields?.[0] === 'Z' || fields?.[0] === 'X' ? undefined : fields?.[19]
}

/** The process that `file` records, if it still lives. */
export async function readRecorded(file: string): Promise<RecordedProcess | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined)
  const [, pid, startTime] = /^(\d+) (\d+)\s*$/.exec(text ?? '') ?? []
  if (pid === undefined || startTime === undefined) return undefined
  return (await startTimeOf(Number(pid))) === startTime ? { pid: Number(pid), startTime } : undefined
}

/** Starts a process that lives on after us, its output appended to `log`, and records it in `file`. */
export async function startRecorded(command: readonly string[], file: string, log: string): Promise<RecordedProcess> {
  const [program, ...rest] = command
  if (program === undefined) throw new Error('no program to start')
  const output = openSync(log, 'a')
  let child: ChildProcess
  try {
    child = spawn(program, rest, { detached: true, stdio: ['ignore', output, output] })
  } finally {
    closeSync(output)
  }
  await new Promise<void>((resolve, reject) => child.once('spawn', resolve).once('error', reject))
  child.unref()
  const pid = child.pid
  const startTime = pid === undefined ? undefined : await startTimeOf(pid)
  if (pid === undefined || startTime === undefined) throw new Error(`${program} ended at once; see ${log}`)
  await writeFile(`${file}.new`, `${pid} ${startTime}\n`)
  await rename(`${file}.new`, file)
  return { pid, startTime }
}

/** Kills the process, if it is still the same one, and waits until it is gone. */
export async function endProcess({ pid, startTime }: RecordedProcess): Promise<void> {
  await until(
    `process ${pid} to end`,
    async () => {
      if ((await startTimeOf(pid)) !== startTime) return true
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        return true // It ended between the look and the signal.
      }
      return false
    },
    { timeoutMs: 10_000, everyMs: 20 },
  )
}
