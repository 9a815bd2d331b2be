// The origin of a run: the service's own origin and tracker over HTTP, without a database behind them. Whoever has a token is
// the host of that name. It speaks the lines of participant.ts.
import { parseArgs } from 'node:util'
import fastify from 'fastify'
import { addOriginRoutes } from '../../src/swarm/origin-routes.ts'
import { Tracker } from '../../src/swarm/tracker.ts'
import { addTrackerRoutes } from '../../src/swarm/tracker-routes.ts'

const { values } = parseArgs({
  options: {
    /** A library of images; stock.torrent lies beside them. */
    root: { type: 'string', default: '.' },
    listen: { type: 'string', default: '127.0.0.1' },
    port: { type: 'string', default: '7780' },
    pieces: { type: 'string', default: '0' },
    'info-hash': { type: 'string', default: '' },
  },
})

const app = fastify()
const baseUrl = `http://${values.listen}:${values.port}`
await addOriginRoutes(app, { library: { folder: values.root }, baseUrl })
app.get('/stock.torrent', (_request, reply) => reply.sendFile('stock.torrent'))
addTrackerRoutes(app, {
  tracker: new Tracker({ firstVersion: 1 }),
  admit: async ({ token, infoHash }) => {
    if (infoHash !== values['info-hash']) return { kind: 'refused', reason: 'there is no such torrent in this run' }
    const kind = token === undefined ? 'stranger' : 'agent'
    return { kind, host: token, site: undefined, rack: undefined, pieces: Number(values.pieces) }
  },
  onError: (error) => console.error(error),
})
await app.listen({ host: values.listen, port: Number(values.port) })
console.log('ready')
