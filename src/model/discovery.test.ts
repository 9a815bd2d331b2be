import { expect, test } from 'vitest'
import { answerToStranger, macsOf, poolAddresses, sayFound } from './discovery.ts'

const isNew = { state: 'waiting', hasReported: false } as const

test('only the policy scout starts a machine, and only one that has not reported and that nobody ignores', () => {
  const seen = [undefined, isNew, { ...isNew, hasReported: true }, { ...isNew, state: 'ignored' as const }]
  const answers = (policy: Parameters<typeof answerToStranger>[0]) => seen.map((one) => answerToStranger(policy, one))
  expect(answers('ignore')).toEqual(['nothing', 'nothing', 'nothing', 'nothing'])
  expect(answers('local')).toEqual(['local', 'local', 'local', 'local'])
  expect(answers('scout')).toEqual(['scout', 'scout', 'local', 'local'])
})

test('an inventory is said in one line', () => {
  const found = { firmware: 'uefi', cpuCount: 2, memoryBytes: 2 ** 30, disks: [], interfaces: [{ mac: 'a' }] }
  expect(sayFound(found)).toBe('uefi, 2 CPU, 1 GiB, 0 disks, 1 interface')
  const disks = [{ sizeBytes: 2 ** 30 }, { sizeBytes: 2 ** 29 }]
  expect(sayFound({ ...found, vendor: 'Acme', product: 'X1', serial: 'S7', disks })).toBe(
    'Acme X1, serial S7, uefi, 2 CPU, 1 GiB, 2 disks of 1.5 GiB, 1 interface',
  )
})

test('a host gets the interface that it booted from first, each once, and not the link to its own controller', () => {
  const interfaces = [
    { mac: '52-54-00-00-00-0A', driver: 'ixgbe' },
    { mac: '52:54:00:00:00:01' },
    { mac: '02:00:00:00:00:01', driver: 'cdc_ether' },
  ]
  expect(macsOf('52:54:00:00:00:01', interfaces)).toEqual(['52:54:00:00:00:01', '52:54:00:00:00:0a'])
  const many = Array.from({ length: 256 }, (_, index) => ({
    mac: `52:54:00:00:01:${index.toString(16).padStart(2, '0')}`,
  }))
  expect(macsOf('52:54:00:00:00:01', many)).toHaveLength(32)
})

test('a pool is a run of hosts of the server’s network without the server', () => {
  const server = { address: '10.77.0.1', prefixLength: 24 }
  expect(poolAddresses('10.77.0.254-10.77.0.254', server)).toEqual(['10.77.0.254'])
  expect(poolAddresses('10.77.0.250-10.77.0.252', server)).toEqual(['10.77.0.250', '10.77.0.251', '10.77.0.252'])
  const wide = { address: '200.1.255.255', prefixLength: 12 }
  expect(poolAddresses('200.2.0.255-200.2.1.0', wide)).toEqual(['200.2.0.255', '200.2.1.0'])
})

test.each([
  ['10.77.0.9-10.77.0.8', 'a later one'],
  ['10.77.0.0-10.77.0.8', 'out of the network'],
  ['10.77.0.250-10.77.0.255', 'out of the network'],
  ['10.78.0.10-10.78.0.20', 'out of the network'],
  ['10.77.0.1-10.77.0.20', "the server's own"],
])('the pool %s is refused: %s', (pool, why) => {
  const server = { address: '10.77.0.1', prefixLength: 24 }
  expect(() => poolAddresses(pool, server)).toThrow(expect.objectContaining({ code: 'bad-input', at: '--dhcp-pool' }))
  expect(() => poolAddresses(pool, server)).toThrow(why)
})

test('a pool has a bound', () => {
  const server = { address: '10.0.0.1', prefixLength: 8 }
  expect(poolAddresses('10.1.0.0-10.1.3.255', server)).toHaveLength(1024)
  expect(() => poolAddresses('10.1.0.0-10.1.4.0', server)).toThrow('1024 are allowed')
})
