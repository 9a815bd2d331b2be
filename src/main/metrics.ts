// The figures of `GET /metrics`, for Prometheus. What happens in this process is counted as it is told; what stands in the
// database is read when somebody asks. Labels are closed sets: no host, image or address is one.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { DhcpEvent } from '../boot/dhcp-server.ts'
import type { BootRecorder, HttpRequest } from '../boot/record.ts'
import type { RenderedScript } from '../boot/resolve.ts'
import { scriptOfPath } from '../boot/scripts.ts'
import type { TftpEvent } from '../boot/tftp-server.ts'
import type { Caller, Handlers } from '../contract/operation.ts'
import type { powerPort } from '../contract/power.ts'
import type { PowerOutcome } from '../contract/types.ts'
import { version } from '../operations/version.ts'
import type { World } from '../operations/world.ts'
import type { Watch } from '../ports/dispatch.ts'
import { quick, slow } from './metrics-buckets.ts'
import { addRowMetrics } from './row-metrics.ts'

export type Metrics = {
  readonly contentType: string
  readonly render: () => Promise<string>
  readonly watch: Watch
  readonly round: (round: { readonly claimed: number; readonly ms: number; readonly failed: boolean }) => void
  readonly tftp: (event: TftpEvent) => void
  readonly http: (request: HttpRequest) => void
  readonly dhcp: (event: DhcpEvent) => void
  readonly script: (script: RenderedScript) => void
  /** The database was asked and answered, or not, after so long. */
  readonly database: (ms: number, failed: boolean) => void
  /** Rows that housekeeping took out of a table. */
  readonly removed: (table: string, rows: number) => void
  /** The Power Port's handlers, which all power requests pass, counted. */
  readonly power: (handlers: PowerHandlers) => PowerHandlers
  /** Counts what leaves the origin; given to its routes. */
  readonly sentBytes: Map<string, number>
}

type PowerHandlers = Handlers<typeof powerPort.operations>

/** Makes the figures of one process. */
export function createMetrics(world: Pick<World, 'db' | 'log' | 'now'>): Metrics {
  const register = new Registry()
  collectDefaultMetrics({ register })
  new Gauge({ name: 'hades_info', help: 'The version that runs', labelNames: ['version'], registers: [register] })
    .labels(version)
    .set(1)
  const sentBytes = new Map<string, number>()
  const sent = new Counter({
    name: 'hades_origin_sent_bytes_total',
    help: 'Bytes of images that left this service by HTTP',
    registers: [register],
  })
  const collectRows = addRowMetrics(register, world)
  return {
    contentType: register.contentType,
    async render() {
      await collectRows()
      sent.reset()
      sent.inc([...sentBytes.values()].reduce((sum, some) => sum + some, 0))
      return await register.metrics()
    },
    sentBytes,
    ...callMetrics(register),
    ...engineMetrics(register),
    ...bootMetrics(register),
    ...powerMetrics(register),
  }
}

/** The recorder of boot requests, whose events are counted too. */
export function countedRecorder(
  metrics: Pick<Metrics, 'tftp' | 'http' | 'dhcp' | 'script'>,
  recorder: BootRecorder,
): BootRecorder {
  return {
    settled: recorder.settled,
    close: recorder.close,
    stranger: recorder.stranger,
    tftp(event) {
      metrics.tftp(event)
      recorder.tftp(event)
    },
    http(request) {
      metrics.http(request)
      recorder.http(request)
    },
    dhcp(event) {
      metrics.dhcp(event)
      recorder.dhcp(event)
    },
    script(view, script) {
      metrics.script(script)
      recorder.script(view, script)
    },
  }
}

function callMetrics(register: Registry): Pick<Metrics, 'watch'> {
  const registers = [register]
  const calls = new Counter({
    name: 'hades_calls_total',
    help: 'Calls of operations, by how they ended: ok, or the code of the failure',
    labelNames: ['port', 'operation', 'code'],
    registers,
  })
  const seconds = new Histogram({
    name: 'hades_call_seconds',
    help: 'How long operations took',
    labelNames: ['port', 'operation'],
    buckets: quick,
    registers,
  })
  const answers = new Counter({
    name: 'hades_http_answers_total',
    help: 'All answers by HTTP: calls, boot files, images',
    labelNames: ['status'],
    registers,
  })
  return {
    watch: {
      call({ port, operation, code, ms }) {
        calls.labels(port, operation, code).inc()
        seconds.labels(port, operation).observe(ms / 1000)
      },
      answer: (status) => answers.labels(String(status)).inc(),
    },
  }
}

function engineMetrics(register: Registry): Pick<Metrics, 'round' | 'database' | 'removed'> {
  const registers = [register]
  const rounds = new Histogram({
    name: 'hades_engine_round_seconds',
    help: 'How long the engine looked for deployments that are due',
    labelNames: ['result'],
    buckets: quick,
    registers,
  })
  const claims = new Counter({
    name: 'hades_engine_claims_total',
    help: 'Deployments that the engine took up for a step',
    registers,
  })
  const database = new Histogram({
    name: 'hades_database_seconds',
    help: 'How long the database took for a small query, asked every few seconds',
    labelNames: ['result'],
    buckets: quick,
    registers,
  })
  const removed = new Counter({
    name: 'hades_housekeeping_removed_total',
    help: 'Rows that were older, or more, than the retention settings keep',
    labelNames: ['table'],
    registers,
  })
  const resultOf = (failed: boolean): string => (failed ? 'failed' : 'ok')
  return {
    round({ claimed, ms, failed }) {
      rounds.labels(resultOf(failed)).observe(ms / 1000)
      claims.inc(claimed)
    },
    database: (ms, failed) => database.labels(resultOf(failed)).observe(ms / 1000),
    removed: (table, count) => removed.labels(table).inc(count),
  }
}

/** What a path of the boot namespace is: one of five words, whatever machines ask for. */
function kindOfPath(path: string | undefined): string {
  if (path === undefined) return 'unreadable'
  if (scriptOfPath(path)) return 'script'
  if (path.startsWith('scout/')) return 'scout'
  return path.startsWith('netboot/') ? 'netboot' : 'loader'
}

function bootMetrics(register: Registry): Pick<Metrics, 'tftp' | 'http' | 'dhcp' | 'script'> {
  const registers = [register]
  const answers = new Counter({
    name: 'hades_boot_answers_total',
    help: 'Boot requests by protocol, what was asked for, and what came of it',
    labelNames: ['via', 'kind', 'outcome'],
    registers,
  })
  const scripts = new Counter({
    name: 'hades_boot_scripts_total',
    help: 'Scripts that loaders got, by target',
    labelNames: ['target', 'loader', 'via'],
    registers,
  })
  const active = new Gauge({ name: 'hades_tftp_transfers', help: 'TFTP transfers under way', registers })
  const bytes = new Counter({ name: 'hades_tftp_sent_bytes_total', help: 'Bytes acknowledged by TFTP', registers })
  const seconds = new Histogram({
    name: 'hades_tftp_seconds',
    help: 'How long finished TFTP transfers took',
    buckets: quick,
    registers,
  })
  /** Transfers that have begun: a request that fails before is no transfer. */
  const open = new Set<string>()
  return {
    tftp(event) {
      const key = `${event.peer.address}:${event.peer.port}`
      if (event.kind === 'started') open.add(key)
      else {
        open.delete(key)
        bytes.inc(event.bytes)
        if (event.kind === 'finished') seconds.observe(event.ms / 1000)
        answers.labels('tftp', kindOfPath(event.path), event.kind === 'finished' ? 'sent' : event.why).inc()
      }
      active.set(open.size)
    },
    http: ({ path, status }) => {
      const outcome = status < 400 ? 'sent' : status === 404 ? 'not-found' : status < 500 ? 'refused' : 'failed'
      answers.labels('http', kindOfPath(path), outcome).inc()
    },
    dhcp: (event) =>
      answers.labels('dhcp', event.kind.replace('dhcp.', ''), 'answer' in event ? event.answer : 'none').inc(),
    script({ target, loader, via, hasFailed }) {
      // `netboot:<profile>` and `local:<partition>` are as many as people make.
      scripts.labels(hasFailed ? 'failed' : (target.split(':')[0] ?? ''), loader, via).inc()
    },
  }
}

function powerMetrics(register: Registry): Pick<Metrics, 'power'> {
  const requests = new Counter({
    name: 'hades_power_requests_total',
    help: 'Requests to controllers of hosts, by driver and how they ended: ok, unconfirmed, or the code of the failure',
    labelNames: ['request', 'driver', 'code'],
    registers: [register],
  })
  const seconds = new Histogram({
    name: 'hades_power_seconds',
    help: 'How long power requests took, all their hosts together',
    labelNames: ['request'],
    buckets: slow,
    registers: [register],
  })
  const counted =
    <Input, Answer>(
      request: string,
      handler: (input: Input, caller: Caller) => Promise<Answer>,
      outcomesOf: (answer: Answer) => readonly PowerOutcome[],
    ) =>
    async (input: Input, caller: Caller): Promise<Answer> => {
      const end = seconds.labels(request).startTimer()
      const answer = await handler(input, caller).finally(end)
      for (const { driver = 'none', failure, confirmed } of outcomesOf(answer)) {
        requests.labels(request, driver, failure?.code ?? (confirmed ? 'ok' : 'unconfirmed')).inc()
      }
      return answer
    }
  return {
    power: (handlers) => ({
      ...handlers,
      getPower: counted('status', handlers.getPower, ({ outcomes }) => outcomes),
      setPower: counted('power', handlers.setPower, ({ outcomes }) => outcomes),
      setBootDevice: counted('boot-device', handlers.setBootDevice, ({ outcomes }) => outcomes),
      testPower: counted('test', handlers.testPower, ({ outcome }) => [outcome]),
    }),
  }
}
