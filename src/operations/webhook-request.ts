// One delivery of a webhook: a POST signed as the Standard Webhooks specification says, so that its libraries check it.
// Redirects are not followed, and addresses that only this machine can reach are not called, whatever a name resolves to.
import { createHmac } from 'node:crypto'
import { lookup } from 'node:dns'
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import type { EventView } from '../contract/types.ts'
import { isOutside } from '../lib/outside-address.ts'
import type { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'

/** A receiver answers within this, or the delivery has failed. */
export const deliveryMs = 10_000

export type Delivery = {
  readonly url: string
  readonly secret: Secret
  /** The same each time that the same event is sent to the same webhook: what the receiver knows doubles by. */
  readonly id: string
  readonly event: EventView
  readonly now: number
  /** Lets loopback and link-local addresses be called. */
  readonly allowsInside: boolean
}

/** Refuses what is no address of a receiver. Failure `bad-input`. */
export function checkWebhookUrl(text: string, allowsInside: boolean): void {
  const refuse = (sentence: string) => new Failure('bad-input', sentence, { at: 'url' })
  const url = URL.parse(text)
  if (url === null || !['http:', 'https:'].includes(url.protocol)) throw refuse('it must be an http or https URL')
  if (url.username !== '' || url.password !== '') throw refuse('a URL must hold no password: the signature proves us')
  const host = hostOf(url)
  const isLocalName = host === 'localhost' || host.endsWith('.localhost')
  if (!allowsInside && (isLocalName || (isIP(host) !== 0 && !isOutside(host)))) {
    throw refuse(`${host} is this machine itself: start the service with --local-webhooks if that is meant`)
  }
}

function hostOf(url: URL): string {
  return url.hostname.replace(/^\[(.*)\]$/, '$1')
}

/** Resolves when the receiver has taken the event (2xx). Throws an Error that says why not. */
export async function deliver(delivery: Delivery, signal: AbortSignal): Promise<void> {
  const { url: text, event, id, allowsInside } = delivery
  const url = new URL(text)
  const host = hostOf(url)
  if (!allowsInside && isIP(host) !== 0 && !isOutside(host)) throw new Error(`${host} is not to be called`)
  const body = JSON.stringify({ type: event.kind, timestamp: event.at, data: event })
  const timestamp = String(Math.floor(delivery.now / 1000))
  const options: RequestOptions = {
    method: 'POST',
    agent: false,
    lookup: allowsInside ? lookup : lookupOutside,
    signal: AbortSignal.any([signal, AbortSignal.timeout(deliveryMs)]),
    headers: {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      'user-agent': 'HaDeS',
      'webhook-id': id,
      'webhook-timestamp': timestamp,
      'webhook-signature': `v1,${signature(delivery.secret, `${id}.${timestamp}.${body}`)}`,
    },
  }
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, options, resolve)
  request.once('error', reject)
  request.end(body)
  try {
    const answer = await promise
    const { statusCode = 0 } = answer
    // What it says besides is not read: the connection ends here.
    answer.destroy()
    if (statusCode < 200 || statusCode > 299) throw new Error(`the receiver answered ${statusCode}`)
  } catch (error) {
    if (error instanceof Error && error.name === 'TimeoutError') {
      throw new Error(`the receiver did not answer within ${deliveryMs} ms`, { cause: error })
    }
    throw error
  }
}

function signature(secret: Secret, text: string): string {
  const key = secret.reveal()
  const bytes = key.startsWith('whsec_') ? Buffer.from(key.slice(6), 'base64') : Buffer.from(key)
  return createHmac('sha256', bytes).update(text).digest('base64')
}

/** Looks a name up and gives only addresses that may be called, so that none can be put in their place afterwards. */
const lookupOutside: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    const allowed = (addresses ?? []).filter(({ address }) => isOutside(address))
    const [first] = allowed
    if (error) callback(error, '', 0)
    else if (first === undefined) callback(new Error(`${hostname} is an address that is not to be called`), '', 0)
    else if (options.all) callback(null, allowed)
    else callback(null, first.address, first.family)
  })
}
