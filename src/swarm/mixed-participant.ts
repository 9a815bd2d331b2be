// A process of the mixed swarm, in a network namespace of its own: the origin with tracker and seeder, or one agent. It
// speaks the lines of bench/swarm/participant.ts and tells its counters five times a second.
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { Secret } from '../lib/secret.ts'
import { parseTorrent } from '../protocol/torrent.ts'
import { joinSwarm } from './swarm.ts'
import { openSwarm, takeAll } from './testing.ts'

/** The web seed is slower than the links: whoever has a piece sooner is asked for it. */
const originBytesPerSecond = 700_000

const [role = '', ...words] = process.argv.slice(2)
const lines = createInterface({ input: process.stdin })
const tell = (stats: () => object) => setInterval(() => console.log(`stats ${JSON.stringify(stats())}`), 200)

if (role === 'origin') await beOrigin(words)
else if (role === 'agent') await beAgent(words)
else throw new Error(`\`${role}\` is neither origin nor agent`)

async function beOrigin([host = '', seeded = '']: readonly string[]): Promise<void> {
  const world = await openSwarm(await readFile(seeded), { host, seeded, originBytesPerSecond })
  tell(() => ({ url: world.origin.url, announce: world.tracker.url, sentBytes: world.origin.sentBytes }))
  console.log('ready')
}

async function beAgent([host = '', torrentFile = '', url = '', announce = '', output = '']: readonly string[]) {
  const torrent = parseTorrent(await readFile(torrentFile))
  console.log('ready')
  await once(lines, 'line')
  const swarm = await joinSwarm({
    torrent,
    webSeeds: [url],
    tracker: { url: announce, token: new Secret(host) },
    listen: { host: '0.0.0.0', port: 6881 },
    budgetBytes: 2 * torrent.info.totalBytes,
    client: 'HaDeS test',
    log: (line) => console.error(line),
  })
  tell(() => swarm.progress())
  await writeFile(output, await takeAll(swarm, Buffer.alloc(torrent.info.totalBytes)))
  console.log('last')
}
