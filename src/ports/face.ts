// What both faces of a port work with, and the bounds of everything a stranger can send.
import type { FastifyRequest } from 'fastify'
import type { Logger } from 'pino'
import type { RunOnce } from '../contract/operation.ts'
import type { Admission, Credentials } from './admit.ts'
import type { Watch } from './dispatch.ts'

export type Limits = {
  /** Of one request: twice the largest message there is, an agent's failure report with its log. */
  readonly bodyBytesMax: number
  readonly headerBytesMax: number
  /** Elements inside elements of a SOAP message. */
  readonly depthMax: number
  /** From the connection, or the last answer, to the end of the headers. */
  readonly headersMs: number
  /** From there to the end of the body. */
  readonly requestMs: number
  /** An answer of which the reader takes nothing for so long is given up. */
  readonly stallMs: number
  /** A connection without a request is kept for so long: longer than agents pause between reports. */
  readonly keepAliveMs: number
  /** Of one listener: ten thousand agents, and room. */
  readonly connectionsMax: number
}

export const defaultLimits: Limits = {
  bodyBytesMax: 1024 * 1024,
  headerBytesMax: 16 * 1024,
  depthMax: 32,
  headersMs: 10_000,
  requestMs: 30_000,
  stallMs: 60_000,
  keepAliveMs: 65_000,
  connectionsMax: 12_000,
}

export type Face = Admission & {
  readonly log: Logger
  readonly limits: Limits
  /** Aborts when the service ends. */
  readonly closing: AbortSignal
  readonly runOnce: RunOnce | undefined
  readonly credentialsOf: (request: FastifyRequest) => Credentials
  readonly watch: Watch | undefined
}
