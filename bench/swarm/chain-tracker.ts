// A tracker for the part on loopback: it names to each peer nobody but its predecessor, so that stock clients stand in a row
// as `--ports` has them. The first one is the seeder. It speaks the lines of participant.ts.
import { createServer } from 'node:http'
import { parseArgs } from 'node:util'
import { encodeAnswer, encodeScrape } from '../../src/protocol/tracker-answer.ts'
import { parseAnnounce, parseScrape } from '../../src/protocol/tracker-wire.ts'

const { values } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1' },
    port: { type: 'string', default: '6969' },
    /** `host:port` of each client, comma separated. */
    row: { type: 'string', default: '' },
  },
})

const row = values.row.split(',').map((text) => {
  const [ip = '', port = ''] = text.split(':')
  return { ip, port: Number(port) }
})
let hasSeeder = false

const server = createServer((request, response) => {
  const [path = '', query = ''] = (request.url ?? '').split('?')
  if (path === '/announce') response.end(answerAnnounce(query))
  else response.end(answerScrape(query))
})

function answerAnnounce(query: string): Buffer {
  const announce = parseAnnounce(query)
  const place = row.findIndex(({ port }) => port === announce.port)
  hasSeeder ||= place === 0
  const predecessor = row[place - 1]
  const counts = { complete: hasSeeder ? 1 : 0, incomplete: row.length - 1 }
  const peers = predecessor === undefined ? [] : [predecessor]
  return encodeAnswer({ ...counts, intervalSeconds: 5, minIntervalSeconds: 1, peers }, announce)
}

function answerScrape(query: string): Buffer {
  const counts = { complete: hasSeeder ? 1 : 0, downloaded: 0, incomplete: 0 }
  return encodeScrape(new Map(parseScrape(query).map((infoHash) => [infoHash, counts])))
}

server.listen(Number(values.port), values.listen, () => console.log('ready'))
