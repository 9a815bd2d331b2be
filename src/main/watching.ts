// What watches the service: figures, readiness, and the routes that tell them.
import { readSecretFile } from '../lib/secret-file.ts'
import type { World } from '../operations/world.ts'
import { addHealthRoutes, addMetricsRoute } from '../ports/health.ts'
import type { AddRoutes } from '../ports/http.ts'
import type { Config } from './config-schema.ts'
import { createMetrics, type Metrics } from './metrics.ts'
import { type Readiness, startReadiness } from './readiness.ts'

export type Watching = {
  readonly metrics: Metrics
  readonly readiness: Readiness
  /** `/healthz` and `/readyz`, for every server. */
  readonly healthRoutes: AddRoutes
  /** `/metrics`, for the server of people and their programs. */
  readonly metricsRoutes: AddRoutes
}

/** Begins to watch. Close `readiness` before the database. */
export async function startWatching(world: World, { metrics: { tokenFile } }: Config): Promise<Watching> {
  const metrics = createMetrics(world)
  const readiness = startReadiness(world, metrics.database)
  const token = tokenFile === undefined ? undefined : await readSecretFile(tokenFile)
  return {
    metrics,
    readiness,
    healthRoutes: (app) => addHealthRoutes(app, readiness.parts),
    metricsRoutes: (app, face) => addMetricsRoute(app, face, { ...metrics, token }),
  }
}
