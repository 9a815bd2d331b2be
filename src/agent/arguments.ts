// What the loader's script told the agent through the kernel's command line. Only `hades.` words are ours; stage 1 of
// the scout reads some of its own from the same place.
import { plainFingerprint } from '../client/trust.ts'
import { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'

/** For what the machine was booted: a deployment of a host, or, as nobody knows it, the report of what it is. */
export type AgentArguments =
  | ({ readonly purpose: 'deployment' } & HostArguments)
  | ({ readonly purpose: 'report' } & ReportArguments)
export type HostArguments = CommonArguments & { readonly host: string }
export type ReportArguments = CommonArguments & { readonly mac: string }

type CommonArguments = {
  /** Base URL of the service, such as http://10.77.0.1:7780 */
  readonly service: string
  /** The one-time boot token. */
  readonly token: Secret
  /** The public key that images must be signed by, base64; undefined when the script was of a service that signs none. */
  readonly key?: string | undefined
  /** The fingerprint that the service's certificate, or its authority, must have; undefined over HTTP. */
  readonly pin?: string | undefined
  /** Of the interface that the machine booted from, where the loader said which. */
  readonly mac?: string | undefined
  /** Of the stage 2 that stage 1 has checked and started. */
  readonly stage2Sha256?: string | undefined
}

/**
 * Reads `hades.service=URL hades.host=NAME hades.token=TOKEN`, and `hades.mac=`, `hades.key=` and `hades.pin=` where they are given, out of a kernel command
 * line; with `hades.agent=report` the machine has no name, and must have its `hades.mac`. Of a word given twice the last counts, as the kernel has it. Throws
 * Failure `bad-input` naming the word that is missing or wrong.
 */
export function parseArguments(commandLine: string): AgentArguments {
  const words = new Map<string, string>()
  for (const word of commandLine.trim().split(/\s+/)) {
    const match = /^hades\.([a-z0-9_.]+)=(.*)$/.exec(word)
    if (match?.[1] !== undefined && match[2] !== undefined) words.set(match[1], match[2])
  }
  const take = (name: string, fits: (value: string) => boolean, form: string): string => {
    const value = words.get(name)
    if (value !== undefined && fits(value)) return value
    // The value is not shown: the wrong word may be a token in the wrong place.
    const problem = value === undefined ? 'is missing from' : 'is wrong in'
    throw new Failure('bad-input', `hades.${name} ${problem} the kernel arguments: it has the form ${form}`, {
      at: `hades.${name}`,
    })
  }
  const mac = words.get('mac')
  const key = words.get('key')
  const pin = words.has('pin')
    ? take('pin', (value) => plainFingerprint(value) !== undefined, 'of a SHA-256')
    : undefined
  const service = take('service', isHttpUrl, 'http://ADDRESS:PORT')
  if (service.startsWith('https:') && pin === undefined) {
    throw new Failure(
      'bad-input',
      'hades.pin is missing from the kernel arguments: no service is believed without it',
      {
        at: 'hades.pin',
      },
    )
  }
  const stage2Sha256 = words.get('stage2.sha256')
  const isMac = (value: string): boolean => /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(value)
  const common = {
    ...(pin === undefined ? {} : { pin }),
    ...(key === undefined ? {} : { key }),
    ...(stage2Sha256 !== undefined && /^[0-9a-f]{64}$/.test(stage2Sha256) ? { stage2Sha256 } : {}),
    ...(mac !== undefined && isMac(mac) ? { mac: mac.toLowerCase() } : {}),
    service,
  }
  const whose =
    words.get('agent') === 'report'
      ? { purpose: 'report' as const, mac: take('mac', isMac, 'of a MAC address').toLowerCase() }
      : {
          purpose: 'deployment' as const,
          host: take('host', (value) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(value), 'of a host name'),
        }
  return { ...common, ...whose, token: new Secret(take('token', (value) => value !== '', 'of a boot token')) }
}

function isHttpUrl(value: string): boolean {
  const url = URL.parse(value)
  return url !== null && (url.protocol === 'http:' || url.protocol === 'https:')
}
