// A real MariaDB that takes only TLS, with certificates of an authority that the test makes: who is let in, who is refused,
// and whether the refusal says what to set.
import { chmod, copyFile } from 'node:fs/promises'
import { type AddressInfo, connect as connectSocket, createServer } from 'node:net'
import { type Kysely, sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { Secret } from '../lib/secret.ts'
import { databaseKinds } from './both-testing.ts'
import { connect } from './open.ts'
import { parsePlace } from './place.ts'
import type { Schema } from './schema.ts'
import { startTlsMariadb, type TlsServer } from './tls-testing.ts'

// Statements cross to another process, which a busy machine makes long.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 180_000 })

const password = new Secret('a word for the database')

describe.runIf(databaseKinds.includes('mariadb'))('TLS to MariaDB', () => {
  let tls: TlsServer
  /** What the server says of the connection: its cipher, empty without TLS. */
  async function cipherOf(
    host: string,
    options: string,
    { user = 'hades', port = tls.port } = {},
  ): Promise<string | undefined> {
    const hosts = host
      .split(',')
      .map((one) => `${one}:${port}`)
      .join()
    const db: Kysely<Schema> = connect(parsePlace(`mariadb://${user}@${hosts}/${tls.database}?${options}`, password))
    try {
      const { rows } = await sql<{ Value: string }>`show status like 'Ssl_cipher'`.execute(db)
      return rows[0]?.Value
    } finally {
      await db.destroy()
    }
  }
  const trusting = (name: string, more = ''): string => `tls=verify&ca=${tls.file(`${name}.pem`)}${more}`
  const refusal = (why: RegExp) => ({ code: 'database-unavailable', message: expect.stringMatching(why) })

  beforeAll(async () => {
    tls = await startTlsMariadb(password.reveal())
    await tls.makeAuthority('other-ca')
    await tls.makeCertificate('by-address', 'IP:127.0.0.1')
    await tls.makeCertificate('elsewhere', 'DNS:db.example')
    await tls.makeCertificate('ended', 'DNS:localhost', { days: 0 })
    await tls.makeCertificate('client', 'DNS:hades.example')
    await tls.makeCertificate('strange-client', 'DNS:hades.example', { authority: 'other-ca' })
  })
  afterAll(() => tls.close())

  test('a server whose certificate our authority signed for its name is believed, and nothing goes in the clear', async () => {
    expect(await cipherOf('localhost', trusting('ca'))).toMatch(/^TLS_/)
  })

  test('a server that is named by its address is believed for that address alone', async () => {
    await expect(cipherOf('127.0.0.1', trusting('ca'))).rejects.toMatchObject(refusal(/certificate for other names/))
    await tls.show('by-address')
    expect(await cipherOf('127.0.0.1', trusting('ca'))).toMatch(/^TLS_/)
    await expect(cipherOf('localhost', trusting('ca'))).rejects.toMatchObject(refusal(/certificate for other names/))
    await tls.show('by-name')
  })

  test('the certificate of another authority is refused, and so is one of none that this machine knows', async () => {
    const started = performance.now()
    const why = new RegExp(`localhost:${tls.port} .*other-ca.pem.* has not signed: .*\`ca=\` in \`database\``)
    await expect(cipherOf('localhost', trusting('other-ca'))).rejects.toMatchObject(refusal(why))
    await expect(cipherOf('localhost', 'tls=verify')).rejects.toMatchObject(refusal(/this machine's authorities/))
    // No waiting mends it.
    expect(performance.now() - started).toBeLessThan(10_000)
  })

  test('the certificate of another host, and one that has ended, are refused', async () => {
    await tls.show('elsewhere')
    const names = /localhost:\d+ has a certificate for other names: write the host in `database`/
    await expect(cipherOf('localhost', trusting('ca'))).rejects.toMatchObject(refusal(names))
    await tls.show('ended')
    await expect(cipherOf('localhost', trusting('ca'))).rejects.toMatchObject(refusal(/not valid now/))
    await tls.show('by-name')
  })

  test('of two nodes the one whose certificate is good is taken', async () => {
    expect(await cipherOf('127.0.0.1,localhost', trusting('ca'))).toMatch(/^TLS_/)
  })

  test('a connection that breaks in the handshake is tried again, as any that is lost', async () => {
    let tries = 0
    const between = createServer((client) => {
      tries += 1
      const isBroken = tries === 1
      const there = connectSocket(tls.port, '127.0.0.1')
      there.pipe(client)
      // The first that the client says is that it wants TLS.
      if (isBroken) client.once('data', () => client.resetAndDestroy())
      else client.pipe(there)
      for (const [one, other] of [
        [client, there],
        [there, client],
      ] as const) {
        one.on('error', () => {})
        one.on('close', () => other.destroy())
      }
    })
    await new Promise<void>((listening) => {
      between.listen(0, '127.0.0.1', listening)
    })
    // A socket of TCP has an address of this form.
    const { port } = between.address() as AddressInfo
    expect(await cipherOf('localhost', trusting('ca'), { port })).toMatch(/^TLS_/)
    expect(tries).toBe(2)
    between.close()
  })

  test('who asks without TLS is told to say tls=verify', async () => {
    await expect(cipherOf('localhost', 'tls=off')).rejects.toMatchObject(refusal(/wants TLS of it \(tls=verify/))
  })

  test('a user who must show a certificate shows ours, and is refused without it or with a strange one', async () => {
    const ours = (name: string): string =>
      trusting('ca', `&cert=${tls.file(`${name}.pem`)}&key=${tls.file(`${name}.key`)}`)
    expect(await cipherOf('localhost', ours('client'), { user: 'known' })).toMatch(/^TLS_/)
    await expect(cipherOf('localhost', trusting('ca'), { user: 'known' })).rejects.toMatchObject(
      refusal(/refuses this user/),
    )
    await expect(cipherOf('localhost', ours('strange-client'), { user: 'known' })).rejects.toMatchObject(
      refusal(/`cert=`/),
    )
  })

  test.each([
    ['ca=/nowhere/ca.pem', /`ca=\/nowhere\/ca.pem`, which cannot be used/],
    ['ca=/etc/hostname', /`ca=\/etc\/hostname`, which is not in PEM/],
  ])('a file that is none is told by the option that names it: %s', async (option, why) => {
    await expect(cipherOf('localhost', `tls=verify&${option}`)).rejects.toMatchObject({
      code: 'bad-input',
      message: expect.stringMatching(why),
    })
  })

  test('a private key that others can read is not used', async () => {
    await copyFile(tls.file('client.key'), tls.file('open.key'))
    await chmod(tls.file('open.key'), 0o644)
    const asked = cipherOf('localhost', trusting('ca', `&cert=${tls.file('client.pem')}&key=${tls.file('open.key')}`))
    await expect(asked).rejects.toMatchObject({
      code: 'bad-input',
      cause: expect.objectContaining({ message: expect.stringMatching(/can be read by others/) }),
    })
  })

  test('a server without TLS is refused before it hears a password', async () => {
    await tls.server.kill('SIGKILL')
    await tls.server.start(tls.withoutTls)
    await expect(cipherOf('localhost', trusting('ca'))).rejects.toMatchObject(
      refusal(/localhost:\d+ offers no TLS: turn it on there .* tls=off in `database`/),
    )
  })
})
