// `hades db` as administrators call it, on a MariaDB that takes only TLS.
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { mariadbProgram } from '../db/mariadb-testing.ts'
import { startTlsMariadb, type TlsServer } from '../db/tls-testing.ts'

const program = join(import.meta.dirname, '..', '..', 'bin', 'hades')
const password = 'a word for the database'

describe.runIf(existsSync(mariadbProgram))('hades db by TLS', () => {
  let tls: TlsServer
  let folder: string
  beforeAll(async () => {
    tls = await startTlsMariadb(password)
    await tls.makeAuthority('other-ca')
    folder = await mkdtemp(join(tmpdir(), 'hades-db-'))
    await writeFile(join(folder, 'password'), `${password}\n`, { mode: 0o600 })
  }, 180_000)
  afterAll(async () => {
    await tls.close()
    await rm(folder, { recursive: true })
  })

  /** With a configuration that trusts this authority. */
  async function hades(authority: string, ...args: string[]) {
    const file = join(folder, `${authority}.yaml`)
    const where = `mariadb://hades@localhost:${tls.port}/${tls.database}?tls=verify&ca=${tls.file(`${authority}.pem`)}`
    await writeFile(file, `data: data\ndatabase: ${where}\ndatabasePasswordFile: password\n`)
    return await execa(program, [...args, '--config', file], { reject: false })
  }

  test('migrate, backup, restore and check work by the settings of the service', async () => {
    expect(await hades('ca', 'config', 'check')).toMatchObject({ exitCode: 0 })
    expect(await hades('ca', 'db', 'migrate')).toMatchObject({ exitCode: 0 })
    const backup = join(folder, 'backup')
    expect(await hades('ca', 'db', 'backup', backup)).toMatchObject({ exitCode: 0 })
    expect(await hades('ca', 'db', 'restore', '--replace', backup)).toMatchObject({ exitCode: 0 })
    expect(await hades('ca', 'db', 'check')).toMatchObject({ exitCode: 0, stdout: 'nothing is wrong' })
  }, 120_000)

  test('a server that the authority of the settings did not sign for is refused with the setting to mend', async () => {
    const { exitCode, stderr } = await hades('other-ca', 'db', 'check')
    expect(exitCode).toBe(11)
    expect(stderr).toMatch(/has a certificate that .*other-ca\.pem.* has not signed: .*`ca=` in `database`/)
    expect(stderr).not.toContain(password)
  }, 60_000)
})
