// Services on one MariaDB share the work, one joins in the middle, one is killed: deployments go on. The agents are simulated, and
// speak to the real Service Ports.
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pLimit from 'p-limit'
import { expect, test } from 'vitest'
import { mariadbProgram, startMariadb } from '../src/db/mariadb-testing.ts'
import { openDatabase } from '../src/db/open.ts'
import { until } from '../src/lib/until.ts'
import {
  begin,
  claimsOf,
  countDone,
  deployAs,
  expectEachOnce,
  killService,
  type Service,
  startService,
} from './services/simulated-hosts.ts'

const hostsMax = 60
/** Hosts whose agents come before the third service does. */
const hostsBefore = 30

test.runIf(existsSync(mariadbProgram))(
  'two services share the deployments of one MariaDB, a third joins and one is killed: all end, none is done twice',
  async () => {
    const server = await startMariadb()
    const folder = await mkdtemp(join(tmpdir(), 'hades-services-'))
    const services: Service[] = []
    const joins = async (name: string): Promise<Service> => {
      const service = await startService(folder, name, place)
      services.push(service)
      return service
    }
    const place = await server.createDatabase()
    const db = await openDatabase(place)
    try {
      const a = await joins('a')
      const b = await joins('b')
      const rollout = await begin(a, hostsMax)
      const limit = pLimit(12)
      const deploy = (from: number, to: number) =>
        Promise.all(Array.from({ length: to - from }, (_, index) => limit(() => deployAs(from + index, services))))
      await deploy(0, hostsBefore)
      const c = await joins('c')
      await until('the third to take part', async () => (await claimsOf(c)) > 0, { timeoutMs: 60_000 })
      expect(await claimsOf(a)).toBeGreaterThan(0)
      expect(await claimsOf(b)).toBeGreaterThan(0)
      const others = deploy(hostsBefore, hostsMax)
      await until('some of the other hosts', async () => (await countDone(db, rollout)) > hostsBefore, {
        timeoutMs: 120_000,
      })
      await killService(a)
      await others
      await until('all hosts', async () => (await countDone(db, rollout)) === hostsMax, { timeoutMs: 200_000 })
      await expectEachOnce(db, hostsMax)
    } finally {
      await db.destroy()
      for (const service of services) await killService(service)
      await server.close()
      await rm(folder, { recursive: true, force: true })
    }
  },
)
