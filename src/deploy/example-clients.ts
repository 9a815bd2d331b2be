// The programs of examples/clients, run for tests as docs/clients.md says: each is given a service and an order, and drives the
// whole rollout from the WSDL, or the OpenAPI document, alone. What the machine does meanwhile is the test's.
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { copyFile, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'

const examples = join(import.meta.dirname, '..', '..', 'examples', 'clients')

/** Where a service is, and who calls it. */
export type ServiceAt = {
  /** By TLS. */
  readonly url: string
  /** The authority of its certificate. */
  readonly caFile: string
  readonly token: string
  /** What stands before each command that calls it, as that of a network namespace; empty when nothing must. */
  readonly before: readonly string[]
}

/** One host, how its power is switched, and the setup that it gets. */
export type Order = {
  readonly host: string
  readonly mac: string
  readonly ip: string
  readonly power: {
    readonly driver: string
    readonly address: string
    readonly username: string
    readonly password: string
    readonly options: readonly { readonly name: string; readonly value: string }[]
  }
  readonly setup: string
  readonly setupXml: string
}

type Run = {
  readonly command: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
}

export type ExampleClient = {
  readonly peer: string
  /** The lines that it says before all others do. */
  readonly says: readonly string[]
  readonly run: (service: ServiceAt, order: Order, folder: string) => Promise<Run>
}

/** The order as the programs read it that take it from standard input. */
function orderJson({ host, mac, ip, power, setup, setupXml }: Order): string {
  return JSON.stringify({ host: { name: host, interfaces: [{ mac, ip }], powerMethods: [power] }, setup, setupXml })
}

function bySoap(peer: string, interpreter: string, script: string, version: string): ExampleClient {
  return {
    peer: `${peer} (SOAP ${version})`,
    says: [],
    run: async ({ url, caFile }, order) => ({
      command: [interpreter, join(examples, script), `${url}/control`, caFile],
      env: { SOAP_VERSION: version },
      input: orderJson(order),
    }),
  }
}

function byGsoap(version: string): ExampleClient {
  return {
    peer: `gSOAP (SOAP ${version})`,
    says: [`SOAP ${version}`],
    run: async (service, { host, mac, ip, power, setup, setupXml }, folder) => {
      const setupFile = join(folder, 'setup.xml')
      await writeFile(setupFile, setupXml)
      const given = power.options.map(({ name, value }) => `${name}=${value}`)
      const words = [host, mac, ip, setup, setupFile, power.driver, power.address, power.username, ...given]
      return {
        command: [await buildGsoap(service), `${service.url}/control`, service.caFile, ...words],
        env: { BMC_PASSWORD: power.password, SOAP_VERSION: version },
      }
    },
  }
}

const byOpenapi: ExampleClient = {
  peer: 'openapi-client-axios',
  says: [],
  run: async ({ url, caFile }, order) => ({
    command: [process.execPath, join(examples, 'rollout.mjs'), url],
    env: { NODE_EXTRA_CA_CERTS: caFile },
    input: orderJson(order),
  }),
}

export const exampleClients = {
  zeep: bySoap('python3-zeep', '/usr/bin/python3', 'rollout.py', '1.2'),
  php: bySoap('php-soap', 'php', 'rollout.php', '1.1'),
  gsoap: byGsoap('1.2'),
  gsoapBy11: byGsoap('1.1'),
  openapi: byOpenapi,
}

export type Drive = { readonly service: ServiceAt; readonly order: Order; readonly timeoutMs: number }

/** Runs a program to its end, at most so long, and returns what it said and its exit code. */
export async function drive(client: ExampleClient, { service, order, timeoutMs }: Drive) {
  const folder = await mkdtemp(join(tmpdir(), 'hades-client-'))
  try {
    const { command, env = {}, input = '' } = await client.run(service, order, folder)
    const [program = '', ...words] = [...service.before, ...command]
    return await execa(program, words, {
      env: { ...env, HADES_TOKEN: service.token },
      input,
      reject: false,
      timeout: timeoutMs,
    })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** As docs/clients.md has them. */
export const gsoapCommands = [
  'wsdl2h -c++11 -o control.h control.wsdl',
  'soapcpp2 -C -j -x -L -c++11 -I/usr/share/gsoap/import control.h',
  'g++ -std=c++17 -DWITH_OPENSSL -o rollout rollout.cpp soapC.cpp soapControlPortSoap11Proxy.cpp -lgsoapssl++ -lssl -lcrypto -lz',
]

/**
 * Builds the C++ example from the WSDL that the service gives, and returns the program. A build takes half a minute, so it is
 * kept for the next test with the same WSDL and example; the address of the service, which is in the WSDL, is no part of it.
 */
export async function buildGsoap({ url, caFile, before }: ServiceAt): Promise<string> {
  const [program, ...words] = [...before, 'curl', '-fsS', '--cacert', caFile, `${url}/control?wsdl`]
  const { stdout: wsdl } = await execa(program, words, { timeout: 30_000 })
  const source = join(examples, 'rollout.cpp')
  const parts = [wsdl.replaceAll(url, ''), await readFile(source, 'utf8'), ...gsoapCommands]
  const kept = join(tmpdir(), `hades-gsoap-${createHash('sha256').update(parts.join('\0')).digest('hex').slice(0, 24)}`)
  if (existsSync(kept)) return kept
  const cwd = await mkdtemp(join(tmpdir(), 'hades-gsoap-build-'))
  try {
    await writeFile(join(cwd, 'control.wsdl'), wsdl)
    await copyFile(source, join(cwd, 'rollout.cpp'))
    for (const command of gsoapCommands) await execa('sh', ['-c', command], { cwd })
    // A copy beside it first: the name stands only for a whole program.
    await copyFile(join(cwd, 'rollout'), `${kept}.${process.pid}`)
    await rename(`${kept}.${process.pid}`, kept)
    return kept
  } finally {
    await rm(cwd, { recursive: true, force: true })
  }
}
