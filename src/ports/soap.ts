// The SOAP face of a port: 1.1 and 1.2 at one URL. The operation is the first element of the body, not SOAPAction, which
// 1.2 does not have; the answer is in the version of the request.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { failureBody, toFailureBody } from '../contract/failure-body.ts'
import { failureMeanings } from '../contract/failures.ts'
import { idempotencyKey, type Port } from '../contract/operation.ts'
import { schemaOf } from '../lib/schema.ts'
import { type XmlElement, XmlError } from '../lib/xml.ts'
import { Failure } from '../model/failure.ts'
import {
  decodeEnvelope,
  encodeEnvelope,
  encodeFault,
  SoapError,
  type SoapVersion,
  soapMediaTypes,
} from '../protocol/soap.ts'
import { admit } from './admit.ts'
import { call, type ServedPort } from './dispatch.ts'
import type { Face } from './face.ts'
import { addHeaders, failureOf, keyOf } from './rest.ts'
import { decodeRoot, encodeRoot } from './schema-xml.ts'
import { failureElement } from './wsdl.ts'

/** Adds `POST /<port>`. */
export function addSoapRoute(app: FastifyInstance, served: ServedPort, face: Face): void {
  const { port } = served
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  // What fails before there is an envelope fails as HTTP does, by the status of its code, with a fault as body.
  app.setErrorHandler((error, request, reply) => {
    // Both are faults of an envelope that was read, and 500 in both versions; neither may have a detail.
    if (error instanceof SoapError) {
      return sendMessage(
        reply,
        error.version,
        500,
        encodeFault(error.version, { kind: error.kind, reason: error.message, notUnderstood: error.notUnderstood }),
      )
    }
    const failure = failureOf(error, request, face)
    return sendFault(reply, port, assumedVersion(request), failure, failureMeanings[failure.code].status)
  })
  app.post(`/${port.name}`, async (request, reply) => {
    const { version, body, headers } = readMessage(request, face, port)
    try {
      return sendMessage(
        reply,
        version,
        200,
        encodeEnvelope(version, await answer(served, { body, headers }, request, face)),
      )
    } catch (error) {
      const failure = failureOf(error, request, face)
      return sendFault(reply, port, version, failure, faultStatus(version, failure))
    }
  })
  app.setReplySerializer((payload) => payload as string)
}

type Message = { readonly body: XmlElement; readonly headers: readonly XmlElement[] }

async function answer(served: ServedPort, { body, headers }: Message, request: FastifyRequest, face: Face) {
  const { port } = served
  const operation = Object.hasOwn(port.operations, body.name) ? port.operations[body.name] : undefined
  if (operation === undefined || body.namespace !== port.namespace) {
    const asked = `{${body.namespace}}${body.name}`.slice(0, 200)
    throw new Failure(
      'unknown-operation',
      `the ${port.name} port has no operation ${asked}; its namespace is ${port.namespace}`,
    )
  }
  const asked = { name: body.name, operation, requestId: request.id }
  const caller = await admit(asked, face.credentialsOf(request), face)
  const input = decodeRoot(schemaOf(operation.input), body)
  const { log, oversight, watch, runOnce } = face
  const context = { log, oversight, watch, runOnce, requestId: request.id, key: soapKeyOf(headers, request) }
  const output = await call(served, body.name, input, caller, context)
  return encodeRoot(schemaOf(operation.output), `${body.name}Response`, port.namespace, output)
}

/** The idempotency key, from its header block or from the header of HTTP. */
function soapKeyOf(headers: readonly XmlElement[], request: FastifyRequest): string | undefined {
  const [block, another] = headers
  const [inside, outside] = [block?.text.trim(), keyOf(request)]
  if (another || (inside !== undefined && outside !== undefined && inside !== outside)) {
    throw new Failure('bad-input', 'there are two idempotency keys', { at: 'idempotencyKey' })
  }
  return inside ?? outside
}

function readMessage(request: FastifyRequest, face: Face, port: Port): Message & { version: SoapVersion } {
  const [type = '', ...parameters] = (request.headers['content-type'] ?? '').toLowerCase().split(';')
  if (!['text/xml', 'application/soap+xml', 'application/xml'].includes(type.trim())) {
    throw new Failure('bad-input', 'a SOAP message has the content type text/xml (1.1) or application/soap+xml (1.2)')
  }
  const charset = parameters.join(';').match(/charset\s*=\s*"?([^";\s]*)/)?.[1] ?? 'utf-8'
  if (!['utf-8', 'utf8', 'us-ascii'].includes(charset)) throw new Failure('bad-input', 'the charset must be utf-8')
  const limits = { lengthMax: face.limits.bodyBytesMax, depthMax: face.limits.depthMax }
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(request.body as Buffer)
    const understood = { namespace: port.namespace, name: idempotencyKey.block }
    return decodeEnvelope(text, { assumed: assumedVersion(request), limits, understood })
  } catch (error) {
    if (error instanceof SoapError && error.kind !== 'sender') throw error
    if (error instanceof XmlError || error instanceof SoapError) throw new Failure('bad-input', error.message)
    if (error instanceof TypeError) throw new Failure('bad-input', 'the message is not UTF-8')
    throw error
  }
}

/** The version that the headers tell, for answers to what cannot be read. */
function assumedVersion(request: FastifyRequest): SoapVersion {
  return request.headers['content-type']?.toLowerCase().startsWith(soapMediaTypes['1.2']) ? '1.2' : '1.1'
}

/**
 * The HTTP status of a fault. SOAP 1.1 (section 6.2) knows only 500, and JAX-WS drops a fault with another one; SOAP
 * 1.2 (part 2, table 17) has 400 for what the sender did wrong. Who the service does not know gets 401 in both.
 */
function faultStatus(version: SoapVersion, { code }: Failure): number {
  if (code === 'unauthorized') return 401
  return version === '1.2' && failureMeanings[code].fault === 'sender' ? 400 : 500
}

function sendFault(
  reply: FastifyReply,
  port: Port,
  version: SoapVersion,
  failure: Failure,
  status: number,
): FastifyReply {
  addHeaders(reply, failure)
  const fault = encodeFault(version, {
    kind: failureMeanings[failure.code].fault,
    reason: failure.message,
    subcode: { namespace: port.namespace, name: failure.code },
    detail: encodeRoot(schemaOf(failureBody), failureElement, port.namespace, toFailureBody(failure)),
  })
  return sendMessage(reply, version, status, fault)
}

function sendMessage(reply: FastifyReply, version: SoapVersion, status: number, message: string): FastifyReply {
  return reply.code(status).type(`${soapMediaTypes[version]}; charset=utf-8`).send(message)
}
