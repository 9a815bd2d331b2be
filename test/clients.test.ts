// Programs in four languages, each with the client that its SOAP or OpenAPI library makes from what the service gives, each
// deploy a real machine at the same time: python3-zeep, php-soap and gSOAP from the WSDL, openapi-client-axios from the OpenAPI
// document. They are the examples of docs/clients.md and know nothing else of HaDeS.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Cluster, eventsOf, greet, openCluster, publish } from '../lab/cluster.ts'
import { readLabConfig } from '../lab/config.ts'
import { inNamespace } from '../lab/network.ts'
import { missingEvent } from '../lab/story.ts'
import { buildGsoap, drive, exampleClients, type Order, type ServiceAt } from '../src/deploy/example-clients.ts'
import { until } from '../src/lib/until.ts'
import { proofProblem } from '../src/model/proof.ts'

const osImage = join(import.meta.dirname, '..', 'build', 'os-image', 'current')

const config = readLabConfig(`
network: hades-clients
subnet: 10.86.0.0/24
machines:
  - { name: zeep, firmware: bios, memory: 768, disks: [1GiB], address: 10.86.0.11, bmc: 10.86.0.101 }
  - { name: php, firmware: bios, memory: 768, disks: [1GiB], address: 10.86.0.12, bmc: 10.86.0.102 }
  - { name: gsoap, firmware: bios, memory: 768, disks: [1GiB], address: 10.86.0.13, bmc: 10.86.0.103 }
  - { name: openapi, firmware: bios, memory: 768, disks: [1GiB], address: 10.86.0.14, bmc: 10.86.0.104 }
`)

/** Each machine is called as the client that deploys it. */
const names = ['zeep', 'php', 'gsoap', 'openapi'] as const
type Name = (typeof names)[number]

let folder: string
let cluster: Cluster
const ended = new Map<Name, Awaited<ReturnType<typeof drive>>>()

function orderFor(name: Name, password: string): Order {
  const { lab } = cluster
  const machine = machineOf(name)
  const setup = `by-${name}`
  return {
    host: name,
    mac: machine.mac,
    ip: machine.address,
    power: { driver: 'ipmi', address: machine.bmcAddress, username: lab.bmc.username, password, options: [] },
    setup,
    setupXml: `<setup xmlns="urn:hades:setup:1" name="${setup}">
      <disk><image>debian:12</image></disk>
      <transfer engine="http"/>
      <probe><tcp port="22" expect="SSH-2.0"/></probe>
    </setup>`,
  }
}

function machineOf(name: Name) {
  const machine = cluster.lab.machines.find((one) => one.name === name)
  if (machine === undefined) throw new Error(`the lab has no machine ${name}`)
  return machine
}

/** The lines that a client printed, the last of which is the proof that it was given. */
function saidBy(name: Name) {
  const lines = (ended.get(name)?.stdout ?? '').split('\n')
  const signed = JSON.parse(lines.pop() ?? '')
  return { lines, signed }
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hades-clients-'))
  cluster = await openCluster(config, folder, { address: '10.86.0.1', upArgs: ['--control-host', '10.86.0.1'] })
  const { certificate } = await cluster.control.getCertificate({})
  const service: ServiceAt = {
    url: 'https://10.86.0.1:7700',
    caFile: join(folder, 'ca.pem'),
    token: (await readFile(join(cluster.dataFolder, 'admin.token'), 'utf8')).trim(),
    before: inNamespace(cluster.lab.namespace, []),
  }
  await writeFile(service.caFile, certificate.pem)
  await Promise.all([publish(cluster, join(osImage, 'debian.raw'), 'debian:12'), buildGsoap(service)])
  const password = (await readFile(cluster.lab.bmc.passwordFile, 'utf8')).trim()
  await Promise.all(
    names.map(async (name) => {
      const order = orderFor(name, password)
      ended.set(name, await drive(exampleClients[name], { service, order, timeoutMs: 800_000 }))
    }),
  )
})
afterAll(async () => {
  await cluster?.close()
  if (folder) await rm(folder, { recursive: true, force: true })
})

describe.each(names)('%s', (name) => {
  test('drives the rollout of its machine to its end', async () => {
    expect(ended.get(name)).toMatchObject({ stderr: '', exitCode: 0 })
    const [rollout, again] = saidBy(name).lines.filter((line) => line.startsWith('rollout: '))
    expect(rollout).toBe(again)
    const says = [...exampleClients[name].says, 'can start: yes', rollout, again, `${name}: done`]
    expect(saidBy(name).lines).toEqual(says)
  })

  test('reads the signed proof that the image is on this machine', async () => {
    const { signed } = saidBy(name)
    const { publicKey } = await cluster.control.getSigningKey({})
    expect(proofProblem(signed, publicKey)).toBeUndefined()
    const { image } = await cluster.control.getImage({ reference: 'debian:12' })
    expect(signed.proof).toMatchObject({
      host: name,
      outcome: 'done',
      setup: { name: `by-${name}` },
      images: [{ reference: 'debian:12', digest: image.digest }],
      machine: { uuid: machineOf(name).uuid },
      probe: { result: 'seen' },
    })
    expect(signed.proof.bytes.readBack).toBeGreaterThan(0)
  })

  test('leaves a timeline from the order by power, boot and agent to the new system', async () => {
    const kinds = (await eventsOf(cluster, saidBy(name).signed.proof.deployment)).map(({ kind }) => kind)
    const story = ['rollout-started', 'powering', 'power', 'booting', 'boot-script', 'registered', 'completed', 'done']
    expect(missingEvent(story, kinds)).toBeUndefined()
  })

  test('has a machine whose new system answers under its name', async () => {
    const { address } = machineOf(name)
    const answer = await until('SSH', () => greet(cluster, address, join(osImage, 'id_ed25519')), { timeoutMs: 60_000 })
    expect(answer.banner).toMatch(/^SSH-2\.0-/)
    expect(answer.hostName).toBe(name)
  })
})

test('there is one rollout for each client, though each ordered it twice', async () => {
  const { rollouts } = await cluster.control.listRollouts({})
  const hosts = rollouts.flatMap(({ deployments }) => deployments.map(({ host }) => host))
  expect(hosts.sort()).toEqual([...names].sort())
})
