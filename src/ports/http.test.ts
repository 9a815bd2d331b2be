import { execFile } from 'node:child_process'
import { stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { controlPort } from '../contract/control.ts'
import { failureMeanings } from '../contract/failures.ts'
import type { Port } from '../contract/operation.ts'
import { powerPort } from '../contract/power.ts'
import { pathFields, restBase, takesQuery } from '../contract/rest-form.ts'
import { servicePort } from '../contract/service.ts'
import { until } from '../lib/until.ts'
import { Failure } from '../model/failure.ts'
import { decodeEnvelope, decodeFault, soapNamespaces } from '../protocol/soap.ts'
import { type AddRoutes, servePorts } from './http.ts'
import { openPortWorld, type PortWorld } from './port-world.ts'

const run = promisify(execFile)
let world: PortWorld

beforeAll(async () => {
  world = await openPortWorld({
    routes: [
      (app) => void app.get('/images/*', async (request) => `image ${(request.params as { '*': string })['*']}`),
    ],
  })
})
afterAll(() => world.close())

async function rest(method: string, path: string, options: { body?: string; token?: string; headers?: object } = {}) {
  const answer = await fetch(world.baseUrl + path, {
    method,
    headers: {
      ...(options.token === '' ? {} : { authorization: `Bearer ${options.token ?? world.token}` }),
      ...(options.body === undefined ? {} : { 'content-type': 'application/json' }),
      ...options.headers,
    },
    ...(options.body === undefined ? {} : { body: options.body }),
  })
  const text = await answer.text()
  return { status: answer.status, headers: answer.headers, text, json: () => JSON.parse(text) }
}

type Soap = { version?: '1.1' | '1.2'; header?: string; token?: string }

async function soap(port: string, inside: string, { version = '1.1', header = '', token = world.token }: Soap = {}) {
  const message = `<e:Envelope xmlns:e="${soapNamespaces[version]}">${header}<e:Body>${inside}</e:Body></e:Envelope>`
  return post(port, message, version === '1.1' ? 'text/xml; charset=utf-8' : 'application/soap+xml', token)
}

async function post(port: string, message: string | Buffer, type = 'text/xml', token = world.token) {
  const answer = await fetch(`${world.baseUrl}/${port}`, {
    method: 'POST',
    headers: { 'content-type': type, ...(token === '' ? {} : { authorization: `Bearer ${token}` }) },
    body: message,
  })
  const text = await answer.text()
  const { version, body } = decodeEnvelope(text)
  return { status: answer.status, headers: answer.headers, version, body, fault: decodeFault(body), text }
}

function codeOf(fault: ReturnType<typeof decodeFault>): string | undefined {
  return fault?.detail?.children[0]?.text
}

test('REST and SOAP reach the same handler with the same input and caller', async () => {
  world.power.seen.length = 0
  const setPower = { nodeset: 'n[1-3]', action: 'cycle' }
  expect((await rest('POST', '/power/v1/power', { body: JSON.stringify(setPower) })).status).toBe(200)
  for (const version of ['1.1', '1.2'] as const) {
    const inside = '<setPower xmlns="urn:hades:power:1"><nodeset>n[1-3]</nodeset><action>cycle</action></setPower>'
    const answer = await soap('power', inside, { version })
    expect(answer).toMatchObject({
      status: 200,
      version,
      body: { name: 'setPowerResponse', namespace: 'urn:hades:power:1' },
    })
    expect(answer.headers.get('content-type')).toMatch(version === '1.1' ? /^text\/xml;/ : /^application\/soap\+xml;/)
  }
  const caller = { kind: 'user', name: 'admin', role: 'admin', address: '127.0.0.1' }
  expect(world.power.seen).toEqual(
    Array.from({ length: 3 }, () => ({ operation: 'setPower', input: setPower, caller })),
  )
})

test('path, query and body fields of REST become one input', async () => {
  world.control.seen.length = 0
  await rest('POST', '/control/v1/rollouts/7/cancel', { body: '{"nodeset":"n1"}' })
  await rest('POST', '/control/v1/rollouts/8/cancel')
  await rest('GET', '/control/v1/events?after=5&newest=true&nodeset=n%5B1-2%5D')
  await rest('GET', '/control/v1/images/debian%3A12')
  expect(world.control.seen.map((call) => call.input)).toEqual([
    { rollout: 7, nodeset: 'n1' },
    { rollout: 8 },
    { after: 5, newest: true, nodeset: 'n[1-2]' },
    { reference: 'debian:12' },
  ])
})

test('a failure of the handler keeps code, sentences, field and remedy on both faces', async () => {
  const cause = new Error('the lower sentence')
  world.control.answer('getHost', new Failure('unknown-host', 'there is no n9', { at: 'name', cause }))
  const body = {
    code: 'unknown-host',
    message: ['there is no n9', 'the lower sentence'],
    at: 'name',
    remedy: failureMeanings['unknown-host'].remedy,
    retry: false,
  }
  const answer = await rest('GET', '/control/v1/hosts/n9')
  expect([answer.status, answer.json()]).toEqual([404, body])
  const inside = '<getHost xmlns="urn:hades:control:1"><name>n9</name></getHost>'
  const [old, young] = [await soap('control', inside), await soap('control', inside, { version: '1.2' })]
  expect([old.status, old.fault?.code, young.status, young.fault?.code, young.fault?.subcode]).toEqual([
    500,
    'Client',
    400,
    'Sender',
    'unknown-host',
  ])
  for (const { fault } of [old, young]) {
    expect(fault?.reason).toBe('there is no n9')
    expect(fault?.detail?.children.map(({ name, text }) => `${name}=${text}`)).toEqual([
      'code=unknown-host',
      'message=there is no n9',
      'message=the lower sentence',
      'at=name',
      `remedy=${body.remedy}`,
      'retry=false',
    ])
  }
})

test('a bug tells the caller a request id and the log everything, once', async () => {
  world.control.answer('listImages', new Error('secret detail', { cause: new Error('deep secret') }))
  const answer = await rest('GET', '/control/v1/images')
  const request = answer.headers.get('x-request-id')
  expect(answer.status).toBe(500)
  expect(answer.json()).toMatchObject({ code: 'internal', message: [expect.stringContaining(`${request}`)] })
  expect(answer.text).not.toContain('secret')
  const fault = await soap('control', '<listImages xmlns="urn:hades:control:1"/>', { version: '1.2' })
  expect(fault).toMatchObject({ status: 500, fault: { code: 'Receiver', subcode: 'internal' } })
  expect(fault.text).not.toContain('secret')
  const lines = world.log.filter((line) => line.request === request && Number(line.level) >= 50)
  expect(lines).toMatchObject([{ operation: 'listImages', chain: ['secret detail', 'deep secret'] }])
})

test('an output without a required field is a bug; fields that the contract does not name are dropped', async () => {
  world.control.answer('getTask', { task: { id: 1 } })
  expect((await rest('GET', '/control/v1/tasks/1')).json()).toMatchObject({ code: 'internal' })
  world.control.answer('validateSetup', { name: 'a', images: [], passwords: ['x'] })
  const answer = await rest('POST', '/control/v1/setups/validate', { body: '{"xml":"<a/>"}' })
  expect(answer.json()).toEqual({ name: 'a', images: [] })
})

test('an admin operation needs the admin token, an agent operation a token, and the answer says so', async () => {
  for (const [path, token] of [
    ['/control/v1/hosts', ''],
    ['/control/v1/hosts', 'wrong'],
    ['/service/v1/deployments/1/instructions', ''],
    ['/service/v1/deployments/1/instructions', world.token],
  ] as const) {
    const answer = await rest('GET', path, { token })
    expect([answer.status, answer.json().code], `${path} ${token}`).toEqual([401, 'unauthorized'])
    expect(answer.headers.get('www-authenticate')).toMatch(/^Bearer/)
  }
  for (const version of ['1.1', '1.2'] as const) {
    const answer = await soap('control', '<listHosts xmlns="urn:hades:control:1"/>', { token: 'wrong', version })
    expect([answer.status, codeOf(answer.fault)]).toEqual([401, 'unauthorized'])
    expect(answer.headers.get('www-authenticate')).toMatch(/^Bearer/)
  }
  world.service.seen.length = 0
  expect((await rest('GET', '/service/v1/deployments/1/instructions', { token: 'key.1' })).status).toBe(200)
  expect(world.service.seen[0]?.caller).toEqual({ kind: 'bearer', token: 'key.1', address: '127.0.0.1' })
})

test('the token may come as the password of HTTP Basic', async () => {
  const basic = (password: string) => ({ authorization: `Basic ${Buffer.from(`me:${password}`).toString('base64')}` })
  expect((await rest('GET', '/control/v1/hosts', { token: '', headers: basic(world.token) })).status).toBe(200)
  expect((await rest('GET', '/control/v1/hosts', { token: '', headers: basic('wrong') })).status).toBe(401)
  expect((await rest('GET', '/control/v1/hosts', { token: '', headers: { authorization: 'Basic !' } })).status).toBe(
    401,
  )
})

test('the unix socket is for its owner only, and whoever may open it is the administrator', async () => {
  expect((await stat(world.socketPath)).mode & 0o777).toBe(0o600)
  world.control.seen.length = 0
  const { stdout } = await run('curl', ['-sS', '--unix-socket', world.socketPath, 'http://localhost/control/v1/setups'])
  expect(JSON.parse(stdout)).toHaveProperty('setups')
  expect(world.control.seen[0]?.caller).toEqual({ kind: 'user', name: 'admin', role: 'admin', address: 'unix' })
})

test('plain routes of others are served beside the ports', async () => {
  expect((await rest('GET', '/images/a/b')).text).toBe('image a/b')
})

test('each port has a page, a WSDL with the address that was asked, and there is one over all ports', async () => {
  expect((await rest('GET', '/control', { token: '' })).text).toContain('startRollout')
  const wsdl = (await rest('GET', '/control?WSDL', { token: '' })).text
  expect(wsdl).toContain(`<Soap12:address location="${world.baseUrl}/control"/>`)
  const { stdout } = await run('curl', ['-sS', '-H', 'Host: deploy.example:7700', `${world.baseUrl}/control?wsdl`])
  expect(stdout).toContain('<Soap11:address location="http://deploy.example:7700/control"/>')
  const bad = await run('curl', ['-sS', '-H', 'Host: "><x', `${world.baseUrl}/control?wsdl`])
  expect(JSON.parse(bad.stdout)).toMatchObject({ code: 'bad-input' })
  const all = (await rest('GET', '/wsdl')).text
  for (const name of ['control', 'service', 'power']) expect(all).toContain(`${world.baseUrl}/${name}?wsdl`)
})

test('paths, operations and namespaces that do not exist are named', async () => {
  for (const [method, path] of [
    ['GET', '/nothing'],
    ['GET', '/control/v1/nothing'],
    ['DELETE', '/control/v1/status'],
  ] as const) {
    const answer = await rest(method, path)
    expect([answer.status, answer.json().code], path).toEqual([404, 'unknown-operation'])
  }
  for (const inside of [
    '<nothing xmlns="urn:hades:control:1"/>',
    '<listHosts xmlns="urn:hades:power:1"/>',
    '<toString xmlns="urn:hades:control:1"/>',
    '<listHosts/>',
  ]) {
    expect(codeOf((await soap('control', inside)).fault), inside).toBe('unknown-operation')
  }
})

test('bad bodies and parameters of REST are refused with the field', async () => {
  const cases: readonly [string, string, string | undefined, string | undefined][] = [
    ['POST', '/power/v1/power', '{"nodeset":', undefined],
    ['POST', '/power/v1/power', '[]', undefined],
    ['POST', '/power/v1/power', 'null', 'nodeset'],
    ['POST', '/power/v1/power', '{"nodeset":"n1","action":"explode"}', 'action'],
    ['POST', '/power/v1/power', '{"nodeset":"n1","action":"on","force":true}', 'force'],
    ['POST', '/power/v1/power', '{"nodeset":"n1","action":"on","__proto__":{"x":1}}', '__proto__'],
    ['POST', '/power/v1/power', `{"nodeset":${'['.repeat(400_000)}`, undefined],
    ['POST', '/power/v1/power', `{"nodeset":${'['.repeat(200_000)}${']'.repeat(200_000)},"action":"on"}`, 'nodeset'],
    ['POST', '/control/v1/rollouts/7/cancel', '{"rollout":8}', 'rollout'],
    ['POST', '/control/v1/rollouts/x/cancel', '{}', 'rollout'],
    ['GET', '/control/v1/events?after=-1', undefined, 'after'],
    ['GET', '/control/v1/events?after=1&after=2', undefined, 'after'],
    ['GET', '/control/v1/events?aftre=1', undefined, 'aftre'],
    ['GET', '/control/v1/status?__proto__=1', undefined, '__proto__'],
    ['GET', '/control/v1/hosts/%zz', undefined, undefined],
    ['GET', '/control/v1/hosts/%2e%2e%2f', undefined, 'name'],
    ['GET', `/control/v1/hosts/${'n'.repeat(2000)}`, undefined, undefined],
  ]
  for (const [method, path, body, at] of cases) {
    const answer = await rest(method, path, body === undefined ? {} : { body })
    expect([answer.status, answer.json().code, answer.json().at], `${path} ${body}`.slice(0, 80)).toEqual([
      400,
      'bad-input',
      at,
    ])
    expect(answer.text.length).toBeLessThan(2000)
  }
  const text = await rest('POST', '/power/v1/power', { body: 'nodeset=n1', headers: { 'content-type': 'text/plain' } })
  expect([text.status, text.json().code]).toEqual([400, 'bad-input'])
})

test('hostile XML and broken envelopes are refused, quickly and as the fault of the sender', async () => {
  const laughs = Array.from({ length: 9 }, (_, i) => `<!ENTITY l${i + 1} "${`&l${i};`.repeat(10)}">`).join('')
  const inside = '<listHosts xmlns="urn:hades:control:1"/>'
  const envelope = (body: string) =>
    `<e:Envelope xmlns:e="${soapNamespaces['1.1']}"><e:Body>${body}</e:Body></e:Envelope>`
  const attacks: Record<string, string | Buffer> = {
    'billion laughs': `<!DOCTYPE x [<!ENTITY l0 "ha">${laughs}]>${envelope('<listHosts>&l9;</listHosts>')}`,
    'external entity': `<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>${envelope('<a>&f;</a>')}`,
    'deep nesting': envelope('<a>'.repeat(200_000)),
    'many attributes': envelope(`<a ${Array.from({ length: 50_000 }, (_, i) => `b${i}=""`).join(' ')}/>`),
    'many namespaces': envelope(`<a ${Array.from({ length: 30_000 }, (_, i) => `xmlns:b${i}="u"`).join(' ')}/>`),
    'many elements': envelope(`<a>${'<b/>'.repeat(200_000)}</a>`),
    'not well-formed': '<e:Envelope',
    'not XML': 'hello',
    empty: '',
    'not UTF-8': Buffer.from([0x3c, 0x61, 0xff, 0x2f, 0x3e]),
    'UTF-16': Buffer.from(`\uFEFF${envelope(inside)}`, 'utf16le'),
    'a processing instruction': `<?xml-stylesheet href="x"?>${envelope(inside)}`,
    'another document': '<html/>',
    'no body': `<e:Envelope xmlns:e="${soapNamespaces['1.1']}"/>`,
    'two calls': envelope(inside + inside),
  }
  for (const [name, message] of Object.entries(attacks)) {
    const answer = await post('control', message)
    expect([answer.status, answer.fault?.code, codeOf(answer.fault)], name).toEqual([400, 'Client', 'bad-input'])
    expect(answer.text).not.toContain('root:')
  }
  expect((await post('control', envelope(inside), 'application/json')).status).toBe(400)
  expect((await post('control', envelope(inside), 'text/xml; charset=latin1')).status).toBe(400)
})

test('other SOAP versions and headers that must be understood get the faults that SOAP names for them', async () => {
  const old = '<Envelope xmlns="http://www.w3.org/2001/09/soap-envelope"><Body/></Envelope>'
  expect((await post('control', old)).fault?.code).toBe('VersionMismatch')
  expect((await post('control', old, 'application/soap+xml')).text).toContain('SupportedEnvelope')
  for (const version of ['1.1', '1.2'] as const) {
    const header = '<e:Header><s:Security xmlns:s="urn:s" e:mustUnderstand="1"/></e:Header>'
    const inside = '<listHosts xmlns="urn:hades:control:1"/>'
    const answer = await soap('control', inside, { version, header })
    expect([answer.version, answer.fault?.code, answer.fault?.detail]).toEqual([version, 'MustUnderstand', undefined])
    expect((await soap('control', inside, { version, header: header.replace('"1"', '"0"') })).status).toBe(200)
  }
})

test('what is too large is refused on both faces', async () => {
  const body = JSON.stringify({ xml: 'x'.repeat(1_100_000) })
  const answer = await rest('POST', '/control/v1/setups', { body })
  expect([answer.status, answer.json().code]).toEqual([413, 'too-large'])
  const message = await post('control', `<a>${'x'.repeat(1_100_000)}</a>`)
  expect([message.status, codeOf(message.fault)]).toEqual([413, 'too-large'])
})

test('large headers, slow requests and too many connections are cut off', async () => {
  const limits = { headersMs: 200, requestMs: 200, headerBytesMax: 4096, connectionsMax: 2 }
  const small = await openPortWorld({ limits })
  const talk = async (text: string): Promise<string> => {
    let heard = ''
    const socket = connect(small.port, '127.0.0.1')
    socket.on('data', (chunk) => {
      heard += chunk
    })
    // The server may cut the connection while we still write.
    socket.on('error', () => undefined)
    socket.write(text)
    await new Promise<void>((resolve) => socket.once('close', () => resolve()))
    return heard
  }
  try {
    expect(await talk(`GET /control HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(8000)}\r\n\r\n`)).toMatch(/^HTTP\/1.1 431/)
    expect(await talk('GET /control HTTP/1.1\r\nHost:')).toMatch(/^HTTP\/1.1 408/)
    const head = 'POST /control HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\nContent-Length: 99\r\n\r\n<a'
    expect(await talk(head)).toMatch(/^HTTP\/1.1 (408|400)/)
    expect(await talk('nonsense\r\n\r\n')).toMatch(/^HTTP\/1.1 400/)
    const held = [0, 1].map(() => connect(small.port, '127.0.0.1'))
    await Promise.all(held.map((socket) => new Promise((resolve) => socket.once('connect', resolve))))
    expect(await talk('GET /control HTTP/1.1\r\nHost: a\r\n\r\n')).toBe('')
    for (const socket of held) socket.destroy()
  } finally {
    await small.close()
  }
})

test('a reader who takes nothing of a long answer is given up', async () => {
  const { promise: cut, resolve } = Promise.withResolvers<string>()
  const long: AddRoutes = (app) => {
    app.get('/long', async ({ raw }) => {
      raw.socket.once('close', () => resolve('cut'))
      return Buffer.alloc(64 * 1024 * 1024)
    })
  }
  const own = await openPortWorld({ limits: { stallMs: 100 }, routes: [long] })
  const socket = connect(own.port, '127.0.0.1')
  socket.on('error', () => undefined)
  socket.write('GET /long HTTP/1.1\r\nHost: a\r\n\r\n')
  expect(await cut).toBe('cut')
  socket.destroy()
  await own.close()
})

test('an address that is taken is named, and a socket that a dead process left is taken over', async () => {
  const options = { ports: [], authenticate: () => undefined, log: {} as never }
  for (const at of [{ host: '127.0.0.1', port: world.port }, { socketPath: world.socketPath }]) {
    await expect(servePorts({ ...options, listen: [at] })).rejects.toMatchObject({ code: 'in-use' })
  }
  const socketPath = `${world.socketPath}.dead`
  const script = `require('net').createServer().listen(${JSON.stringify(socketPath)}, () => process.kill(process.pid, 'SIGKILL'))`
  await run(process.execPath, ['-e', script]).catch(() => undefined)
  expect((await stat(socketPath)).isSocket()).toBe(true)
  const server = await servePorts({ ...options, listen: [{ socketPath }] })
  await server.close()
})

test('closing waits for an answer under way, and no longer than told', async () => {
  const { promise, resolve } = Promise.withResolvers<unknown>()
  const own = await openPortWorld()
  own.control.answer('listSetups', promise)
  const asked = fetch(`${own.baseUrl}/control/v1/setups`, { headers: { authorization: `Bearer ${own.token}` } })
  await until('the call', () => own.control.seen.length === 1, { timeoutMs: 5000, everyMs: 5 })
  const closed = own.server.close(10_000)
  resolve({ setups: [] })
  expect(await (await asked).json()).toEqual({ setups: [] })
  await closed
  await own.close()
  const stuck = await openPortWorld()
  stuck.control.answer('listSetups', new Promise(() => undefined))
  const cut = fetch(`${stuck.baseUrl}/control/v1/setups`, { headers: { authorization: `Bearer ${stuck.token}` } })
  await until('the call', () => stuck.control.seen.length === 1, { timeoutMs: 5000, everyMs: 5 })
  await stuck.server.close(50)
  await expect(cut).rejects.toThrow('fetch failed')
  await stuck.close()
})

test.each([controlPort, servicePort, powerPort] as readonly Port[])(
  'every operation of the $name port refuses wrong types of each of its fields, on both faces, never as a bug',
  async (port) => {
    const token = port.name === 'service' ? 'a-session-key' : world.token
    for (const [name, operation] of Object.entries(port.operations)) {
      const inPath = pathFields(operation)
      for (const field of Object.keys(operation.input.properties)) {
        const inside = `<${name} xmlns="${port.namespace}"><${field}><x/></${field}></${name}>`
        const answer = await soap(port.name, inside, { version: '1.2', token })
        expect([answer.status, codeOf(answer.fault)], `${name} ${field}`).toEqual([400, 'bad-input'])
        if (takesQuery(operation)) continue
        const path = restBase(port) + operation.rest.path.replace(/\{\w+\}/g, '1')
        for (const wrong of [null, { x: 1 }, [[]], Number.MAX_VALUE]) {
          const body = JSON.stringify({ [field]: wrong })
          const refused = await rest(operation.rest.method, path, { body, token })
          expect([refused.status, refused.json().code], `${name} ${body}`).toEqual([400, 'bad-input'])
          if (inPath.includes(field)) expect(refused.json().at).toBe(field)
        }
      }
    }
  },
)
