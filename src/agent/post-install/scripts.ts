// Runs the setup's scripts, each in a process and mount namespace of its own: when it ends, is cut off or runs out of time,
// the kernel ends every process that it began and takes away every mount that it made.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Failure } from '../../model/failure.ts'
import type { ScriptPlace } from '../../model/post-install.ts'
import { type ActionResult, done } from './action.ts'
import type { TargetRoot } from './target-root.ts'

export type Script = {
  readonly name: string
  readonly where: ScriptPlace
  readonly timeoutMs: number
  readonly text: string
}

export type ScriptWorld = { readonly host: string; readonly deployment: number }

/** The end of what a script printed, kept for the record. */
const outputBytesMax = 2000
const programPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * In the namespaces: what programs of the new system expect to be mounted, then the script in it. /run is in memory, so the
 * script itself leaves nothing behind. A name server of the scout is lent where the system has none of its own yet.
 */
const enterChroot = `
set -e
root=$1 script=$2 resolver=$3
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 run "$root/run"
[ -z "$resolver" ] || [ ! -e /etc/resolv.conf ] || {
  mkdir -p "$(dirname "$resolver")"
  [ -e "$resolver" ] || : >"$resolver"
  mount --bind /etc/resolv.conf "$resolver"
}
mkdir "$root/run/hades"
cp "$script" "$root/run/hades/script"
chmod 700 "$root/run/hades/script"
shift 3
exec chroot "$root" "$@"
`
const enterScout = 'shift 3; exec "$@"'

/**
 * Runs one script, in `tree` or in the scout with HADES_ROOT naming where the new system is mounted, empty without one.
 * Throws Failure `post-install-failed` with the exit status or the time limit, and the end of what the
 * script printed.
 */
export async function runScript(
  tree: TargetRoot | undefined,
  script: Script,
  world: ScriptWorld,
  signal: AbortSignal,
): Promise<ActionResult> {
  const folder = await mkdtemp(join(tmpdir(), 'hades-script-'))
  try {
    const file = join(folder, 'script')
    await writeFile(file, script.text, { mode: 0o700 })
    const isChroot = script.where === 'chroot' && tree !== undefined
    if (script.where === 'chroot' && !isChroot) {
      throw new Failure('post-install-failed', `script ${script.name} is to run in the new system, and there is none`)
    }
    if (isChroot) for (const name of ['proc', 'sys', 'dev', 'run']) await needFolder(tree, name)
    const inside = isChroot ? '/run/hades/script' : file
    const command = script.text.startsWith('#!') ? [inside] : ['/bin/sh', inside]
    const enter = ['/bin/sh', '-c', isChroot ? enterChroot : enterScout, 'enter', tree?.path ?? '', file]
    const resolver = isChroot ? await resolverPath(tree) : ''
    const ended = await runContained([...enter, resolver, ...command], {
      timeoutMs: script.timeoutMs,
      signal,
      env: {
        PATH: programPath,
        HOME: '/root',
        LANG: 'C.UTF-8',
        TERM: 'dumb',
        HADES_HOST: world.host,
        HADES_DEPLOYMENT: String(world.deployment),
        HADES_ROOT: isChroot ? '/' : (tree?.path ?? ''),
      },
    })
    signal.throwIfAborted()
    return resultOf(script, ended)
  } finally {
    await rm(folder, { recursive: true })
  }
}

async function needFolder(tree: TargetRoot, name: string): Promise<void> {
  await tree.makeFolder(name)
  // A link here would have the scout's own folder covered by the mount.
  const { stats } = await tree.locate(name, { follow: false })
  if (!stats?.isDirectory()) throw new Failure('post-install-failed', `/${name} of the new system is not a folder`)
}

/** Where the new system looks for its name servers, in the scout's tree; empty when it has some of its own. */
async function resolverPath(tree: TargetRoot): Promise<string> {
  const { path, stats } = await tree.locate('/etc/resolv.conf')
  return stats === undefined && !path.startsWith(join(tree.path, 'run/')) ? '' : path
}

type Ended = {
  readonly exitCode: number | null
  readonly isOutOfTime: boolean
  readonly output: string
  readonly isCut: boolean
}

function resultOf({ name, where, timeoutMs }: Script, { exitCode, isOutOfTime, output, isCut }: Ended): ActionResult {
  const printed = output === '' ? 'it printed nothing' : `it printed${isCut ? ', at its end' : ''}: ${output}`
  const place = where === 'chroot' ? 'in the new system' : 'in the scout'
  if (isOutOfTime) {
    const sentence = `script ${name} ${place} was ended after its ${timeoutMs / 1000} s`
    throw new Failure('post-install-failed', sentence, { cause: new Error(printed) })
  }
  if (exitCode !== 0) {
    const sentence = `script ${name} ${place} ended with exit status ${exitCode}`
    throw new Failure('post-install-failed', sentence, { cause: new Error(printed) })
  }
  return done(`exit status 0 ${place}; ${printed}`)
}

/** Runs a command as process 1 of its own namespaces. The time limit and `signal` end all that it began. */
async function runContained(
  command: readonly string[],
  options: { readonly timeoutMs: number; readonly signal: AbortSignal; readonly env: Record<string, string> },
): Promise<Ended> {
  const contain = ['--mount', '--propagation', 'slave', '--pid', '--fork', '--kill-child=SIGKILL', '--mount-proc']
  const child = spawn('unshare', [...contain, ...command], { stdio: ['ignore', 'pipe', 'pipe'], env: options.env })
  const closed = once(child, 'close')
  const kept = tailOf(child)
  let isOutOfTime = false
  const kill = () => void child.kill('SIGKILL')
  const timer = setTimeout(() => {
    isOutOfTime = true
    kill()
  }, options.timeoutMs)
  options.signal.addEventListener('abort', kill)
  if (options.signal.aborted) kill()
  try {
    const [exitCode] = (await closed) as [number | null]
    return { exitCode, isOutOfTime, ...kept() }
  } finally {
    clearTimeout(timer)
    options.signal.removeEventListener('abort', kill)
  }
}

/** The last bytes of what both outputs say, as one line; more is read and forgotten, or the script would wait. */
function tailOf(child: ChildProcess): () => { readonly output: string; readonly isCut: boolean } {
  let tail = Buffer.alloc(0)
  let isCut = false
  const keep = (chunk: Buffer) => {
    const all = Buffer.concat([tail, chunk.subarray(-outputBytesMax)])
    isCut ||= all.length > outputBytesMax || chunk.length > outputBytesMax
    tail = all.subarray(-outputBytesMax)
  }
  child.stdout?.on('data', keep)
  child.stderr?.on('data', keep)
  return () => {
    const text = tail
      .toString('utf8')
      .trim()
      .replaceAll(/\s*\n\s*/g, '; ')
    // Control characters of a script's output have no business on a console.
    return { output: text.replaceAll(/[^\P{Cc}\t]/gu, ''), isCut }
  }
}
