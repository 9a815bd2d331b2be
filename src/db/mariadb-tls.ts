// TLS to a MariaDB: whom we believe, who we are, and what to set when no connection comes about.
import { readFile } from 'node:fs/promises'
import { connect, isIP, type Socket } from 'node:net'
import type { ConnectionOptions } from 'mysql2/promise'
import { readSecretText } from '../lib/secret-file.ts'
import { Failure } from '../model/failure.ts'
import { isLost } from './errors.ts'
import { type DatabaseTls, type MariadbNode, type MariadbPlace, nameOfNode, nameOfPlace } from './place.ts'

/** No file of keys or certificates is larger: all authorities of a machine have 250 KB. */
const pemBytesMax = 2 ** 20

/** What mysql2 needs for TLS to a node. The files are read anew for each connection: they may be replaced at any time. */
export async function tlsOptions(tls: DatabaseTls, node: MariadbNode): Promise<ConnectionOptions> {
  const files = await readTlsFiles(tls)
  const ssl = { rejectUnauthorized: true, verifyIdentity: true, ...files }
  if ('socketPath' in node || isIP(node.host) === 0) return { ssl }
  return { ssl, stream: () => socketTo(node.host, node.port) }
}

/**
 * A socket to an address, which TLS then looks for in the certificate. mysql2 gives TLS no name when there is none, and Node
 * takes the socket's: without one it would look for `localhost`, whatever the address is.
 */
function socketTo(host: string, port: number): Socket {
  return Object.assign(connect({ host, port, keepAlive: true, noDelay: true }), { _host: host })
}

/** The contents of the files that `tls` names. Failure `bad-input` tells which cannot be used, and why. */
export async function readTlsFiles({
  ca,
  identity,
}: DatabaseTls): Promise<{ ca?: string; cert?: string; key?: string }> {
  return {
    ...(ca === undefined ? {} : { ca: await pemOf('ca', ca) }),
    ...(identity === undefined
      ? {}
      : { cert: await pemOf('cert', identity.cert), key: await pemOf('key', identity.key) }),
  }
}

async function pemOf(option: 'ca' | 'cert' | 'key', path: string): Promise<string> {
  const bad = (why: string, cause?: unknown): Failure =>
    new Failure('bad-input', `the database's address names \`${option}=${path}\`, which ${why}`, {
      cause,
      at: '--database',
    })
  let text: string
  try {
    text = option === 'key' ? (await readSecretText(path, pemBytesMax)).reveal() : await readFile(path, 'utf8')
  } catch (cause) {
    throw bad('cannot be used', cause)
  }
  if (!text.includes('-----BEGIN ')) throw bad('is not in PEM')
  return text
}

/**
 * The error of a connection as a Failure that names what to set, when TLS was the reason. mysql2 keeps of an error only its
 * words.
 */
export function tlsFailure(error: unknown, place: MariadbPlace, node: MariadbNode): Failure | undefined {
  if (isLost(error) || !(error instanceof Error) || !('code' in error) || typeof error.code !== 'string')
    return undefined
  const why = reasonOf(error.code, error.message, place.tls)
  if (why === undefined) return undefined
  return new Failure('database-unavailable', `${nameOfPlace(place)}: ${nameOfNode(node)} ${why}`, {
    cause: error,
    at: '--database',
  })
}

function reasonOf(code: string, words: string, tls: DatabaseTls | undefined): string | undefined {
  if (code === 'HANDSHAKE_NO_SSL_SUPPORT') {
    return 'offers no TLS: turn it on there (ssl_cert, ssl_key), or say tls=off in `database` where the network is trusted'
  }
  if (code.startsWith('ERR_SSL_') && tls?.identity) {
    return 'does not take our certificate: correct `cert=` and `key=` in `database`'
  }
  if (code !== 'HANDSHAKE_SSL_ERROR') return undefined
  if (words.startsWith('Hostname/IP')) {
    return 'has a certificate for other names: write the host in `database` as the certificate does, or give it another one'
  }
  if (/expired|not yet valid/.test(words)) return 'has a certificate that is not valid now: renew it, or set the clock'
  if (/issuer|self.signed|first certificate|signature/.test(words)) {
    const trusted = tls?.ca === undefined ? "this machine's authorities have" : `\`${tls.ca}\` has`
    return `has a certificate that ${trusted} not signed: name the file of its authority by \`ca=\` in \`database\``
  }
  return 'makes no TLS connection with us'
}
