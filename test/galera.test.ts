// Two services on a Galera cluster of three nodes deploy 200 simulated hosts; in the middle of it one node and one service are
// killed. The agents are simulated, and speak to the real Service Port: every host must end, and none may be done twice.
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pLimit from 'p-limit'
import { expect, test } from 'vitest'
import { galeraLibrary, startGalera } from '../src/db/galera-testing.ts'
import { openDatabase } from '../src/db/open.ts'
import { until } from '../src/lib/until.ts'
import {
  begin,
  controlOf,
  countDone,
  deployAs,
  expectEachOnce,
  killService,
  type Service,
  startService,
} from './services/simulated-hosts.ts'

const hostsMax = 200

test.runIf(existsSync(galeraLibrary))(
  'a node of the database and a service are killed in the middle of 200 deployments: all end, none is done twice',
  async () => {
    const cluster = await startGalera()
    const folder = await mkdtemp(join(tmpdir(), 'hades-galera-'))
    const services: Service[] = []
    try {
      const place = await cluster.createDatabase([0, 1, 2])
      const a = await startService(folder, 'a', place)
      services.push(a)
      const b = await startService(folder, 'b', place)
      services.push(b)
      const rollout = await begin(a, hostsMax)
      const limit = pLimit(24)
      const agents = Promise.all(Array.from({ length: hostsMax }, (_, index) => limit(() => deployAs(index, services))))
      const db = await openDatabase(place)
      try {
        await until('a third of the hosts', async () => (await countDone(db, rollout)) > hostsMax / 3, {
          timeoutMs: 120_000,
        })
        await cluster.kill(0)
        await killService(a)
        await agents
        // What the dead service had claimed is taken by the other when its claims have run out.
        await until('all hosts', async () => (await countDone(db, rollout)) === hostsMax, { timeoutMs: 400_000 })
        await expectEachOnce(db, hostsMax)
        await cluster.rejoin(0)
        expect((await controlOf(b).getStatus({})).hosts).toBe(hostsMax)
      } finally {
        await db.destroy()
      }
    } finally {
      for (const service of services) await killService(service)
      await cluster.close()
      await rm(folder, { recursive: true, force: true })
    }
  },
)
