// Which certificate a client takes for the service's: one that the system's authorities signed, one that a given authority
// did, or one whose fingerprint was told, as `hades ca` prints it.
import { X509Certificate } from 'node:crypto'
import { Agent, type AgentOptions } from 'node:http'
import { Agent as TlsAgent } from 'node:https'
import { type ConnectionOptions, connect, type DetailedPeerCertificate } from 'node:tls'

/** `ca` in PEM; `fingerprint` is SHA-256 of the service's certificate or of the authority it comes with. */
export type Trust = { readonly ca?: string | undefined; readonly fingerprint?: string | undefined }

const handshakeMs = 10_000
/** Certificates of a chain that are looked at. */
const chainMax = 8

/** The same fingerprint however it is written: 64 small hexadecimal digits; undefined when it is none. */
export function plainFingerprint(text: string): string | undefined {
  const plain = text.toLowerCase().replaceAll(/[^0-9a-f]/g, '')
  return /^[0-9a-fA-F:\s]+$/.test(text) && plain.length === 64 ? plain : undefined
}

/**
 * What node:tls needs to know a service by this trust. With a fingerprint it asks the service for its certificates once, and
 * trusts the one that has the fingerprint, and no other. Throws when there is none, saying which there are.
 */
async function tlsOptions({ ca, fingerprint }: Trust, url: URL): Promise<ConnectionOptions> {
  if (fingerprint === undefined) return ca === undefined ? {} : { ca }
  const wanted = plainFingerprint(fingerprint)
  const chain = await chainOf(url)
  const found = chain.find((certificate) => fingerprintOf(certificate) === wanted)
  if (!found) {
    const seen = chain.map(fingerprintOf).join(', ')
    throw new Error(`the service has no certificate with the fingerprint ${fingerprint}; it has ${seen}`)
  }
  // Who pins a certificate knows the service by it, whatever the address; who pins an authority, by the names that it signed.
  const isService = found === chain[0]
  return {
    ca: found.toString(),
    allowPartialTrustChain: true,
    ...(isService ? { checkServerIdentity: () => undefined } : {}),
  }
}

/** What keeps the connections to a service, which is known by `trust` if it speaks TLS. */
export async function agentFor(url: URL, trust: Trust = {}, options: AgentOptions = {}): Promise<Agent> {
  if (url.protocol !== 'https:') return new Agent(options)
  return new TlsAgent({ ...options, ...(await tlsOptions(trust, url)) })
}

function fingerprintOf(certificate: X509Certificate): string {
  return certificate.fingerprint256.replaceAll(':', '').toLowerCase()
}

/** The certificates that the service at `url` shows, its own first. Nothing is sent to it, and nothing of it is believed. */
async function chainOf(url: URL): Promise<X509Certificate[]> {
  const { promise, resolve, reject } = Promise.withResolvers<X509Certificate[]>()
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const socket = connect({
    host,
    port: Number(url.port === '' ? 443 : url.port),
    rejectUnauthorized: false,
    ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
  })
  socket.setTimeout(handshakeMs, () => socket.destroy(new Error(`no TLS handshake within ${handshakeMs} ms`)))
  socket.once('error', reject)
  socket.once('secureConnect', () => {
    const chain: X509Certificate[] = []
    let at: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true)
    while (at?.raw && chain.length < chainMax) {
      chain.push(new X509Certificate(at.raw))
      at = at.issuerCertificate === at ? undefined : at.issuerCertificate
    }
    socket.destroy()
    resolve(chain)
  })
  return await promise
}
