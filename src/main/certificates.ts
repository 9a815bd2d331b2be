// The certificates of the service: its own authority, made at first start and kept in the data folder, and a certificate
// that it signs for the names of this machine and signs anew before it ends; or a certificate that was given.
import { createPrivateKey, generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import type { CertificateView } from '../contract/user-types.ts'
import { Failure } from '../model/failure.ts'
import type { TlsKeys, TlsSource } from '../ports/listen.ts'

/** As long as a data folder lives: who pins the authority pins it once. */
const authorityDays = 7300
/** Short, because it is renewed without anyone; long enough that a service that was off for a month still has one. */
const serverDays = 90
const renewBeforeMs = 30 * 24 * 3600_000
const toolMs = 20_000

export type CertificateOptions = {
  /** `tls` of the data folder. */
  readonly folder: string
  /** Names and addresses by which the service is called. */
  readonly names: readonly string[]
  /** Files in PEM in place of our own. */
  readonly given?: { readonly cert: string; readonly key: string } | undefined
  readonly now: () => number
}

export type Certificates = TlsSource & {
  readonly view: () => CertificateView
  /** Signs anew what ends within a month, or reads the given files again; who listens takes it at once. */
  readonly renew: () => Promise<void>
}

type State = { readonly keys: TlsKeys; readonly trusted: X509Certificate; readonly server: X509Certificate }

/** Opens the certificates, and makes what is missing. Failure `bad-input` for given files that are of no use. */
export async function openCertificates(options: CertificateOptions): Promise<Certificates> {
  const read = options.given
    ? () => readGiven(options.given ?? { cert: '', key: '' }, options.now())
    : () => own(options)
  let state = await read()
  const watchers: (() => void)[] = []
  return {
    keys: () => state.keys,
    watch: (changed) => void watchers.push(changed),
    view: () => ({
      isOwnAuthority: options.given === undefined,
      pem: state.trusted.toString(),
      fingerprint: state.trusted.fingerprint256.replaceAll(':', '').toLowerCase(),
      names: namesIn(state.server),
      expiresAt: new Date(state.server.validTo).toISOString(),
    }),
    renew: async () => {
      const before = state.server.fingerprint256
      state = await read()
      if (state.server.fingerprint256 !== before) for (const changed of watchers) changed()
    },
  }
}

/** The names and addresses that a certificate is for, plainly. */
function namesIn(certificate: X509Certificate): string[] {
  return (certificate.subjectAltName ?? '').split(', ').map((name) => name.replace(/^(DNS|IP Address):/, ''))
}

async function readGiven(given: { readonly cert: string; readonly key: string }, now: number): Promise<State> {
  const read = async (file: string, at: string): Promise<string> =>
    await readFile(file, 'utf8').catch((cause: unknown) => {
      throw new Failure('bad-input', `the file ${file} cannot be read`, { cause, at })
    })
  const [cert, key] = [await read(given.cert, '--tls-cert'), await read(given.key, '--tls-key')]
  const bad = (why: string, at = '--tls-cert', cause?: unknown): Failure =>
    new Failure('bad-input', `the certificate ${given.cert} is of no use: ${why}`, { at, cause })
  let server: X509Certificate
  try {
    server = new X509Certificate(cert)
  } catch (cause) {
    throw bad('it is no certificate in PEM', '--tls-cert', cause)
  }
  let fits: boolean
  try {
    fits = server.checkPrivateKey(createPrivateKey(key))
  } catch {
    throw bad(`${given.key} is no private key in PEM without a password`, '--tls-key')
  }
  if (!fits) throw bad(`${given.key} is the key of another`, '--tls-key')
  if (Date.parse(server.validTo) <= now) throw bad(`it ended on ${server.validTo}`)
  return { keys: { cert, key }, trusted: server, server }
}

async function own({ folder, names, now }: CertificateOptions): Promise<State> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const authority = await authorityIn(folder)
  const [keyFile, certFile] = [join(folder, 'server.key'), join(folder, 'server.pem')]
  const key = await keyIn(keyFile)
  const have = await readFile(certFile, 'utf8').then(
    (pem) => new X509Certificate(pem),
    () => undefined,
  )
  if (have && isGood(have, authority.certificate, names, now())) {
    return stateOf(have, key, authority.certificate)
  }
  const extensions = [
    'basicConstraints=critical,CA:FALSE',
    'keyUsage=critical,digitalSignature',
    'extendedKeyUsage=serverAuth',
    `subjectAltName=${names.map((name) => (isAddress(name) ? `IP:${name}` : `DNS:${name}`)).join(',')}`,
  ]
  const signer = ['-CA', authority.certFile, '-CAkey', authority.keyFile]
  const pem = await certify(folder, {
    key: keyFile,
    subject: 'HaDeS service',
    days: serverDays,
    extensions,
    more: signer,
  })
  await put(certFile, pem)
  return stateOf(new X509Certificate(pem), key, authority.certificate)
}

function stateOf(server: X509Certificate, key: string, authority: X509Certificate): State {
  // The authority comes along, so that who pins its fingerprint can find it.
  return { keys: { cert: server.toString() + authority.toString(), key }, trusted: authority, server }
}

function isGood(server: X509Certificate, authority: X509Certificate, names: readonly string[], now: number): boolean {
  const has = new Set(namesIn(server).map((name) => name.toLowerCase()))
  return (
    server.verify(authority.publicKey) &&
    Date.parse(server.validTo) - now > renewBeforeMs &&
    names.every((name) => isAddress(name) || has.has(name.toLowerCase())) &&
    names.every((name) => !isAddress(name) || server.checkIP(name) !== undefined)
  )
}

async function authorityIn(folder: string) {
  const [keyFile, certFile] = [join(folder, 'ca.key'), join(folder, 'ca.pem')]
  await keyIn(keyFile)
  const read = async () => new X509Certificate(await readFile(certFile))
  try {
    return { keyFile, certFile, certificate: await read() }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  const extensions = ['basicConstraints=critical,CA:TRUE,pathlen:0', 'keyUsage=critical,keyCertSign,cRLSign']
  // A name of its own: clients that know several services must not take one's authority for another's.
  const subject = `HaDeS authority ${randomBytes(4).toString('hex')}`
  await put(certFile, await certify(folder, { key: keyFile, subject, days: authorityDays, extensions, more: [] }))
  return { keyFile, certFile, certificate: await read() }
}

/** The private key of a file; a new one when there is none. */
async function keyIn(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  await put(file, privateKey.export({ format: 'pem', type: 'pkcs8' }))
  return await readFile(file, 'utf8')
}

/** Writes a file that is whole or not there, for its owner alone. */
async function put(file: string, text: string): Promise<void> {
  const draft = `${file}.${randomBytes(6).toString('hex')}`
  await writeFile(draft, text, { mode: 0o600, flush: true })
  await rename(draft, file)
}

type Order = {
  readonly key: string
  readonly subject: string
  readonly days: number
  readonly extensions: readonly string[]
  readonly more: readonly string[]
}

/** A certificate in PEM, made by openssl. Its own configuration, so that nobody else's has a say in it. */
async function certify(folder: string, { key, subject, days, extensions, more }: Order): Promise<string> {
  const drafts = await mkdtemp(join(folder, 'draft-'))
  try {
    const config = join(drafts, 'openssl.cnf')
    const lines = ['[req]', 'distinguished_name=dn', '[dn]', '[x]', 'subjectKeyIdentifier=hash', ...extensions]
    await writeFile(config, `${lines.join('\n')}\n`)
    const { stdout } = await execa(
      'openssl',
      // biome-ignore format: an option and its value in a line
      [
        'req', '-x509', '-new', '-sha256',
        '-config', config,
        '-extensions', 'x',
        '-key', key,
        '-subj', `/CN=${subject}`,
        '-days', String(days),
        ...more,
      ],
      { timeout: toolMs },
    )
    return `${stdout.trim()}\n`
  } finally {
    await rm(drafts, { recursive: true, force: true })
  }
}

const isAddress = (name: string): boolean => /^[\d.]+$|:/.test(name)

export type TlsOptions = {
  readonly controlHost: string
  readonly address: string | undefined
  /** HTTPS on loopback too. */
  readonly tls?: boolean
  /** Files in PEM, in place of a certificate of our own authority. */
  readonly tlsCert?: string
  readonly tlsKey?: string
  readonly tlsName?: readonly string[]
  /** Where the Service Port listens by TLS, for agents that know it by its fingerprint. */
  readonly serviceTlsPort?: number
}

/** Whether the Control and Power Ports are called by TLS: everywhere but on loopback, and there when it is asked for. */
export function speaksTls({ controlHost, tls, tlsCert }: TlsOptions): boolean {
  return tls === true || tlsCert !== undefined || !isLoopback(controlHost)
}

/** The certificates of this service; undefined when no port of it speaks TLS. Failure `bad-input`. */
export async function serviceCertificates(
  options: TlsOptions,
  { tls: folder }: { readonly tls: string },
): Promise<Certificates | undefined> {
  const { tlsCert: cert, tlsKey: key, tlsName = [], controlHost, address } = options
  if ((cert === undefined) !== (key === undefined)) {
    throw new Failure('bad-input', 'a certificate and its key are given together', { at: '--tls-key' })
  }
  if (!speaksTls(options) && options.serviceTlsPort === undefined) return undefined
  const bad = tlsName.find((name) => !/^[A-Za-z0-9.:-]{1,253}$/.test(name))
  if (bad !== undefined)
    throw new Failure('bad-input', `${bad} is no name or address of a service`, { at: '--tls-name' })
  return await openCertificates({
    folder,
    names: serviceNames(controlHost, address, ...tlsName),
    given: cert === undefined || key === undefined ? undefined : { cert, key },
    now: Date.now,
  })
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.')
}

/** The names of this machine that belong in its certificate, beside those that are said. */
function serviceNames(...said: readonly (string | undefined)[]): string[] {
  const own = hostname().toLowerCase()
  const names = ['localhost', '127.0.0.1', '::1', own, ...said]
  const wild = new Set(['', '0.0.0.0', '::'])
  return [...new Set(names.filter((name): name is string => name !== undefined && !wild.has(name)))]
}
