// For tests: a MariaDB that takes only TLS over the network, and authorities and certificates made by openssl.
import { chmod, copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { freePort } from '../lib/free-port.ts'
import { startMariadb, type TestServer } from './mariadb-testing.ts'

export type TlsServer = {
  readonly server: TestServer
  /** On 127.0.0.1. */
  readonly port: number
  readonly database: string
  /** What to give to `start` for a server that listens and has no TLS. */
  readonly withoutTls: readonly string[]
  /** The file of a certificate or key: `ca.pem`, `client.key`. */
  file(name: string): string
  makeAuthority(name: string): Promise<void>
  /** `names` as openssl has them: `DNS:localhost,IP:127.0.0.1`. */
  makeCertificate(name: string, names: string, by?: { authority?: string; days?: number }): Promise<void>
  /** Has the server show this certificate from now on. */
  show(name: string): Promise<void>
  close(): Promise<void>
}

const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-batch']

/**
 * Starts the server with a certificate for localhost by the authority `ca`. Its user `hades` has this password and must come by
 * TLS; `known` must show a certificate too.
 */
export async function startTlsMariadb(password: string): Promise<TlsServer> {
  const folder = await mkdtemp(join(tmpdir(), 'hades-tls-'))
  // The server runs as another user when root runs the tests.
  await chmod(folder, 0o755)
  const file = (name: string): string => join(folder, name)
  const openssl = (...args: string[]) => execa('openssl', args, { cwd: folder })
  const makeAuthority: TlsServer['makeAuthority'] = async (name) => {
    const out = ['-keyout', `${name}.key`, '-out', `${name}.pem`]
    await openssl('req', '-x509', ...newKey, ...out, '-subj', `/CN=${name}`, '-days', '2')
  }
  const makeCertificate: TlsServer['makeCertificate'] = async (name, names, { authority = 'ca', days = 2 } = {}) => {
    await openssl('req', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`)
    await writeFile(file('names'), `subjectAltName=${names}\n`)
    const by = ['-CA', `${authority}.pem`, '-CAkey', `${authority}.key`, '-extfile', 'names', '-days', `${days}`]
    await openssl('x509', '-req', '-in', `${name}.csr`, '-out', `${name}.pem`, ...by)
  }
  const put = async (name: string): Promise<void> => {
    await copyFile(file(`${name}.pem`), file('server.pem'))
    await copyFile(file(`${name}.key`), file('server.key'))
    await chmod(file('server.key'), 0o644)
  }
  await makeAuthority('ca')
  await makeCertificate('by-name', 'DNS:localhost')
  await put('by-name')
  const port = await freePort()
  const listening = [`--port=${port}`, '--bind-address=127.0.0.1']
  const files = [`--ssl-ca=${file('ca.pem')}`, `--ssl-cert=${file('server.pem')}`, `--ssl-key=${file('server.key')}`]
  const server = await startMariadb([...listening, ...files, '--require-secure-transport=ON'])
  const { database } = await server.createDatabase()
  for (const { user, need } of [
    { user: 'hades', need: 'ssl' },
    { user: 'known', need: 'x509' },
  ]) {
    await server.execute(`create user '${user}'@'127.0.0.1' identified by '${password}' require ${need}`)
    await server.execute(`grant all on ${database}.* to '${user}'@'127.0.0.1'`)
  }
  return {
    server,
    port,
    database,
    withoutTls: [...listening, '--skip-ssl'],
    file,
    makeAuthority,
    makeCertificate,
    async show(name) {
      await put(name)
      await server.execute('flush ssl')
    },
    async close() {
      await server.close()
      await rm(folder, { recursive: true })
    },
  }
}
