// What a loader's script says, as plain data, and by which path it is asked for. Which host asks, and what its boot record
// says, is for resolve.ts; how it is written is for render-script.ts. Every value that enters a script is checked against
// the characters that none of the three languages gives a meaning to, so nothing needs quoting.
import { Failure } from '../model/failure.ts'
import { argumentPattern, bootPathOf, kernelArgumentsMax, type NetbootProfile } from '../model/profile.ts'

export type ScriptHost = {
  readonly name: string
  /** Lower-case with colons. */
  readonly mac: string
}

/** A kernel and what it is given. The paths are relative to the boot namespace, the same over HTTP and TFTP. */
export type KernelBoot = {
  readonly kernelPath: string
  readonly initrdPaths: readonly string[]
  readonly args: readonly string[]
}

/** What one host is to do. `bootUrl` is the boot namespace over HTTP, as in `http://10.77.0.1:7780/boot`. */
export type BootScript = { readonly host: ScriptHost; readonly bootUrl: string } & (
  | ({ readonly target: 'scout' } & KernelBoot)
  | {
      readonly target: 'netboot'
      readonly profile: string
      readonly kernel?: KernelBoot | undefined
      /** In place of the kernel, for the firmware that they are made for. */
      readonly biosProgramPath?: string | undefined
      readonly uefiProgramPath?: string | undefined
    }
  | { readonly target: 'local' }
  | {
      readonly target: 'partition'
      readonly partition: number
      /** Found by these where they are known, and by its number where they are not or no longer there. */
      readonly fsUuid?: string | undefined
      readonly partUuid?: string | undefined
    }
  /** `why` is said on the console. */
  | { readonly target: 'hold'; readonly why?: string | undefined }
)
/** One of the scripts that there are. */
export type ScriptTo<Target extends BootScript['target']> = Extract<BootScript, { target: Target }>

export const scriptLoaders = ['pxelinux', 'ipxe', 'grub'] as const
export type ScriptLoader = (typeof scriptLoaders)[number]

/** How long a machine that cannot go on, or must not, waits before it asks for its script again. */
export const askAgainSeconds = 10

/**
 * What the scout's kernel is always given: output on the screen and the first serial port, without the kernel's own, and no
 * self-tests of ciphers, which take seconds of the boot and find nothing on a kernel that others run too.
 */
export const scoutKernelArgs = ['console=tty0', 'console=ttyS0,115200n8', 'quiet', 'cryptomgr.notests'] as const

/** The path that a loader asks for: pxelinux chooses its own, the others follow it. */
const pathPrefixes = { pxelinux: 'pxelinux.cfg/01-', ipxe: 'ipxe/', grub: 'grub/' } as const

/** Behind the path of a script: the machine says that it could not boot what the script said. */
const failedSuffix = '/failed'

/** The path of the script of the host with this MAC (lower-case with colons), the same over TFTP and HTTP. */
export function scriptPathFor(loader: ScriptLoader, mac: string): string {
  return pathPrefixes[loader] + mac.replaceAll(':', '-')
}

/** The path by which a loader tells that its script came to nothing. */
export function failedPathFor(loader: ScriptLoader, mac: string): string {
  return scriptPathFor(loader, mac) + failedSuffix
}

export type ScriptRequest = { readonly loader: ScriptLoader; readonly mac: string; readonly hasFailed: boolean }

/** Which loader asks for the script of which MAC (lower-case with colons) by this path; `undefined`: it is no script's. */
export function scriptOfPath(path: string): ScriptRequest | undefined {
  const loader = scriptLoaders.find((loader) => path.startsWith(pathPrefixes[loader]))
  if (loader === undefined) return undefined
  const hasFailed = path.endsWith(failedSuffix)
  const mac = path.slice(pathPrefixes[loader].length, hasFailed ? -failedSuffix.length : undefined)
  return /^[0-9a-f]{2}(-[0-9a-f]{2}){5}$/.test(mac) ? { loader, mac: mac.replaceAll('-', ':'), hasFailed } : undefined
}

/** Throws Failure `bad-input` for a value that no script may contain. */
export function checkScript(script: BootScript): void {
  demand(script.host.name, /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'host.name')
  demand(script.host.mac, /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/, 'host.mac')
  demand(script.bootUrl, /^http:\/\/[A-Za-z0-9.-]+(:[0-9]{1,5})?(\/[A-Za-z0-9._-]+)*$/, 'bootUrl')
  switch (script.target) {
    case 'scout':
      checkKernel(script)
      return
    case 'netboot':
      demand(script.profile, /^[a-z0-9][a-z0-9._-]*$/, 'profile')
      if (script.kernel) checkKernel(script.kernel)
      if (script.biosProgramPath !== undefined) demandPath(script.biosProgramPath, 'biosProgramPath')
      if (script.uefiProgramPath !== undefined) demandPath(script.uefiProgramPath, 'uefiProgramPath')
      return
    case 'partition':
      demand(String(script.partition), /^[1-9][0-9]{0,2}$/, 'partition')
      if (script.fsUuid !== undefined) demand(script.fsUuid, /^[0-9A-Fa-f-]{4,36}$/, 'fsUuid')
      if (script.partUuid !== undefined) demand(script.partUuid, /^[0-9A-Fa-f-]{4,36}$/, 'partUuid')
      return
    case 'hold':
      if (script.why !== undefined) demand(script.why, /^[A-Za-z0-9 .,:_-]{1,200}$/, 'why')
      return
    case 'local':
      return
  }
}

function checkKernel({ kernelPath, initrdPaths, args }: KernelBoot): void {
  demandPath(kernelPath, 'kernelPath')
  for (const path of initrdPaths) demandPath(path, 'initrdPaths')
  for (const arg of args) demand(arg, argumentPattern, 'args')
  const length = args.join(' ').length
  if (length > kernelArgumentsMax) {
    const why = `${length} characters of kernel arguments, ${kernelArgumentsMax} are allowed`
    throw new Failure('bad-input', why, { at: 'args' })
  }
}

function demandPath(value: string, at: string): void {
  demand(value, /^[A-Za-z0-9_][A-Za-z0-9._+-]*(\/[A-Za-z0-9_][A-Za-z0-9._+-]*)*$/, at)
}

function demand(value: string, pattern: RegExp, at: string): void {
  // An argument may be a token: the message names its key, never its value.
  if (!pattern.test(value)) {
    const shown = at === 'args' ? JSON.stringify(value.split('=')[0]) : JSON.stringify(value)
    throw new Failure('bad-input', `${at} ${shown} has a character that no boot script may contain`, { at })
  }
}

/** What a loader is told of a profile whose arguments are filled in. */
export function netbootOf(
  profile: NetbootProfile,
  args: readonly string[],
): Omit<ScriptTo<'netboot'>, 'host' | 'bootUrl'> {
  const at = (file: string) => bootPathOf(profile.name, file)
  return {
    target: 'netboot',
    profile: profile.name,
    kernel:
      profile.kernel === undefined
        ? undefined
        : { kernelPath: at(profile.kernel), initrdPaths: profile.initrds.map(at), args },
    biosProgramPath: profile.biosProgram && at(profile.biosProgram),
    uefiProgramPath: profile.uefiProgram && at(profile.uefiProgram),
  }
}
