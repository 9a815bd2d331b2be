// The driver for controllers that speak IPMI 2.0 over LAN (RMCP+), through ipmitool. One run of the tool is one session
// and one command. The password goes to it by its environment, which only our own user can read, never by its arguments.
// IPMI 1.5 (`-I lan`) is left out on purpose: there ipmitool sends a wrong password four times before it gives up.
import { execa } from 'execa'
import { Failure } from '../model/failure.ts'
import type { BootDevice, PowerMethod } from '../model/power.ts'
import { type BootOverride, type PowerDriver, refuseUnknownOptions } from './driver.ts'
import { readRefusal } from './ipmitool-refusal.ts'

type IpmiOptions = {
  /** `-C`. Named always: left to itself ipmitool 1.8.19 first asks for the list, which costs 10 s where it is not given. */
  readonly cipher: number
  /** `-L`. An operator may switch power and set the boot device, so an account need not be an administrator's. */
  readonly privilege: 'administrator' | 'operator'
  /** `-N`. How long one packet's answer is waited for, in seconds. A silent controller costs twice this, measured. */
  readonly timeout: number
  /** Ask for UEFI boot with the boot device, whatever the caller says. */
  readonly efi: boolean
}

const optionTable: { [K in keyof IpmiOptions]: { fallback: string; form: RegExp; says: string } } = {
  cipher: { fallback: '3', form: /^(?:[0-9]|1[0-9])$/, says: 'a cipher suite number from 0 to 19' },
  privilege: { fallback: 'administrator', form: /^(?:administrator|operator)$/, says: '`administrator` or `operator`' },
  timeout: { fallback: '3', form: /^(?:[1-9]|[12][0-9]|30)$/, says: 'a whole number of seconds from 1 to 30' },
  efi: { fallback: 'false', form: /^(?:true|false)$/, says: '`true` or `false`' },
}

/** IPMI 2.0, 22.28 and 22.30: the user name, and the password of a user of RMCP+. */
const usernameBytesMax = 16
const passwordBytesMax = 20
/** The tool prints less than 1 KiB; what prints more is not the tool. */
const outputBytesMax = 64 * 1024
/** RMCP's, where the address names no port. */
const defaultPort = '623'

/** Our word -> `chassis bootdev` argument, and the selector byte of boot flags (IPMI 2.0 table 28-14, parameter 5, data 2). */
const bootDevices: Record<BootDevice, { argument: string; selector: number }> = {
  network: { argument: 'pxe', selector: 0b0001 },
  disk: { argument: 'disk', selector: 0b0010 },
  firmware: { argument: 'bios', selector: 0b0110 },
}

export const ipmi: PowerDriver = {
  check(method) {
    parseOptions(method)
    parseAddress(method)
    refuseBadCredentials(method)
  },

  async status(method, signal) {
    const output = await runIpmitool(method, ['chassis', 'power', 'status'], signal)
    if (output === 'Chassis Power is on') return 'on'
    if (output === 'Chassis Power is off') return 'off'
    throw notUnderstood(method, 'its power state', output)
  },

  async apply(method, action, signal) {
    try {
      const output = await runIpmitool(method, ['chassis', 'power', action], signal)
      if (!output.startsWith('Chassis Power Control: ')) throw notUnderstood(method, `power ${action}`, output)
    } catch (refusal) {
      // Some controllers refuse `on` when on and `off` when off (completion code D5h). A refused login is not asked again.
      const mayBeSo = refusal instanceof Failure && refusal.code === 'bmc-refused' && refusal.at === undefined
      if (!mayBeSo || action === 'reset') throw refusal
      if ((await ipmi.status(method, signal)) !== action) throw refusal
    }
  },

  async shutDown(method, signal) {
    const output = await runIpmitool(method, ['chassis', 'power', 'soft'], signal)
    if (!output.startsWith('Chassis Power Control: ')) throw notUnderstood(method, 'power soft', output)
  },

  async setBootDevice(method, boot, signal) {
    const { argument } = bootDevices[boot.device]
    const efi = boot.efi || parseOptions(method).efi
    const output = await runIpmitool(
      method,
      ['chassis', 'bootdev', argument, ...(efi ? ['options=efiboot'] : [])],
      signal,
    )
    if (output !== `Set Boot Device to ${argument}`) throw notUnderstood(method, `boot device ${argument}`, output)
    return readBootFlags(await runIpmitool(method, ['chassis', 'bootparam', 'get', '5'], signal))
  },
}

/**
 * The selector and the `persistent` bit of `chassis bootparam get 5`. The bits for `valid` and UEFI are not judged:
 * controllers exist that take both and answer 0 for them. OpenIPMI's ipmi_sim does, where only the selector is real.
 */
function readBootFlags(output: string): BootOverride {
  const data = /^Boot parameter data: ([0-9a-f]{4})/im.exec(output)?.[1]
  if (data === undefined) return { device: 'unknown', once: false }
  const selector = (Number.parseInt(data.slice(2, 4), 16) >> 2) & 0b1111
  const once = (Number.parseInt(data.slice(0, 2), 16) & 0b0100_0000) === 0
  const known = (Object.keys(bootDevices) as BootDevice[]).find((device) => bootDevices[device].selector === selector)
  return { device: known ?? 'other', once }
}

/** Runs one command and returns what it printed, trimmed. Everything that can go wrong becomes a Failure here. */
async function runIpmitool(method: PowerMethod, command: readonly string[], signal: AbortSignal): Promise<string> {
  const options = parseOptions(method)
  const { host, port } = parseAddress(method)
  // `-v` makes the tool say why a session was not opened; without it a wrong password looks like silence. More would
  // print keys. `-R 1`: one packet an answer, since repeating is decided above us.
  const login = ['-v', '-I', 'lanplus', '-H', host, '-p', port, '-U', method.username, '-E']
  const manner = [
    '-C',
    `${options.cipher}`,
    '-L',
    options.privilege.toUpperCase(),
    '-N',
    `${options.timeout}`,
    '-R',
    '1',
  ]
  const timeoutMs = Math.max(20, options.timeout * 10) * 1000
  const result = await execa('ipmitool', [...login, ...manner, ...command], {
    // Not our own environment: an IPMITOOL_PASSWORD in it would win over the method's.
    env: { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C', IPMI_PASSWORD: method.password.reveal() },
    extendEnv: false,
    stdin: 'ignore',
    reject: false,
    timeout: timeoutMs,
    cancelSignal: signal,
    forceKillAfterDelay: 500,
    maxBuffer: outputBytesMax,
  })
  if (result.isCanceled) {
    throw new Failure('cancelled', `asking controller ${method.address} was cancelled`, { cause: signal.reason })
  }
  if (result.code === 'ENOENT') throw new Failure('internal', 'ipmitool is not installed (Debian package: ipmitool)')
  // Whose output is cut off may end in any way, well too.
  if (result.exitCode === 0 && !result.isMaxBuffer) return result.stdout.trim()
  if (result.isMaxBuffer || (result.signal !== undefined && !result.timedOut)) {
    const how = result.isMaxBuffer ? `printed more than ${outputBytesMax} bytes` : `was ended by ${result.signal}`
    throw new Failure('bmc-refused', `controller ${method.address} was too much for ipmitool`, {
      cause: new Error(`ipmitool ${command.join(' ')} ${how}`),
    })
  }
  const ended = result.timedOut ? `no end after ${timeoutMs / 1000} s` : `exit ${result.exitCode}`
  const refusal = readRefusal(scrub(result.stderr, method))
  throw new Failure(refusal.code, `controller ${method.address} ${refusal.says}`, {
    cause: new Error(`ipmitool ${command.join(' ')}: ${refusal.line ?? ended}`),
    ...(refusal.at ? { at: refusal.at } : {}),
  })
}

function notUnderstood(method: PowerMethod, what: string, output: string): Failure {
  const printed = scrub(output.split('\n').at(-1)?.slice(0, 200) ?? '', method)
  return new Failure('bmc-refused', `controller ${method.address} gave no clear answer about ${what}`, {
    cause: new Error(`ipmitool printed ${JSON.stringify(printed)}`),
  })
}

/** A tool or a controller that echoes the password shall not carry it into a log. */
function scrub(text: string, method: PowerMethod): string {
  const password = method.password.reveal()
  return password === '' ? text : text.replaceAll(password, '***')
}

function parseOptions(method: PowerMethod): IpmiOptions {
  refuseUnknownOptions(method, Object.keys(optionTable))
  const value = (name: keyof IpmiOptions): string => {
    const { fallback, form, says } = optionTable[name]
    const given = method.options[name] ?? fallback
    if (form.test(given)) return given
    throw new Failure('bad-input', `option \`${name}\` of driver ipmi must be ${says}`, { at: `options.${name}` })
  }
  return {
    cipher: Number(value('cipher')),
    privilege: value('privilege') === 'operator' ? 'operator' : 'administrator',
    timeout: Number(value('timeout')),
    efi: value('efi') === 'true',
  }
}

function parseAddress(method: PowerMethod): { host: string; port: string } {
  const parts = /^(?:([A-Za-z0-9][A-Za-z0-9._-]{0,252})|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{1,5}))?$/.exec(
    method.address,
  )
  const host = parts?.[1] ?? parts?.[2]
  const port = parts?.[3] ?? defaultPort
  if (host === undefined || Number(port) < 1 || Number(port) > 65_535) {
    throw new Failure(
      'bad-input',
      `\`${method.address.slice(0, 300)}\` is not a controller's host, host:port or [IPv6]:port`,
      {
        at: 'address',
      },
    )
  }
  return { host, port }
}

function refuseBadCredentials(method: PowerMethod): void {
  if (Buffer.byteLength(method.username) > usernameBytesMax || method.username.includes('\0')) {
    throw new Failure('bad-input', `an IPMI user name has at most ${usernameBytesMax} bytes`, { at: 'username' })
  }
  const password = method.password.reveal()
  if (Buffer.byteLength(password) > passwordBytesMax || password.includes('\0')) {
    throw new Failure('bad-input', `an IPMI password has at most ${passwordBytesMax} bytes`, { at: 'password' })
  }
}
