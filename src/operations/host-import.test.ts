// Files of hosts against the real handlers and rows.
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { inProcess } from '../client/client.ts'
import { controlPort } from '../contract/control.ts'
import type { PortClient } from '../contract/operation.ts'
import { Failure } from '../model/failure.ts'
import { readHostFile, writeHostFile } from '../model/host-file.ts'
import { controlHandlers } from './control.ts'
import { openTestWorld, type TestWorld } from './testing.ts'

let world: TestWorld
let control: PortClient<typeof controlPort.operations>
beforeEach(async () => {
  world = await openTestWorld()
  control = inProcess(controlPort, controlHandlers(world))
})
afterEach(() => world.close())

const csv = `name,mac,ip,site,rack,power,powerAddress,powerUser,powerPassword,powerOptions
n01,52:54:00:00:00:01,10.0.0.1,a,"r 1",ipmi,10.1.0.1,admin,secret,efi=true
n02,52:54:00:00:00:02 52:54:00:00:00:12,10.0.0.2,a,,manual,,,,
`
const yaml = `
hosts:
  - name: n02
    site: b
    interfaces: [{ mac: '52:54:00:00:00:02', ip: 10.0.0.2 }, { mac: '52:54:00:00:00:12' }]
  - name: n03
    interfaces:
      - mac: '52:54:00:00:00:03'
    powerMethods:
      - driver: manual
`
const names = async () => (await control.listHosts({})).hosts.map(({ name }) => name)

test('a CSV file adds hosts, a YAML file adds and changes them, and what it does not say stays', async () => {
  const first = await control.importHosts({ format: 'csv', text: csv })
  expect(first.hosts.map(({ line, name, action }) => [line, name, action])).toEqual([
    [2, 'n01', 'add'],
    [3, 'n02', 'add'],
  ])
  const { host } = await control.getHost({ name: 'n01' })
  expect(host).toMatchObject({ site: 'a', rack: 'r 1', interfaces: [{ ip: '10.0.0.1' }] })
  expect(host.powerMethods).toMatchObject([{ driver: 'ipmi', address: '10.1.0.1', username: 'admin' }])
  const dry = await control.importHosts({ format: 'yaml', text: yaml, dryRun: true })
  expect(dry.hosts).toEqual([
    { line: 3, name: 'n02', action: 'change', changes: ['site: a -> b'] },
    { line: 6, name: 'n03', action: 'add', changes: [] },
  ])
  expect(await names()).toEqual(['n01', 'n02'])
  await control.importHosts({ format: 'yaml', text: yaml })
  expect(await names()).toEqual(['n01', 'n02', 'n03'])
  expect((await control.getHost({ name: 'n02' })).host).toMatchObject({
    site: 'b',
    powerMethods: [{ driver: 'manual' }],
  })
})

test('a file that was imported changes nothing the second time, but for another password', async () => {
  await control.importHosts({ format: 'csv', text: csv })
  const again = await control.importHosts({ format: 'csv', text: csv })
  expect(again.hosts.map(({ action }) => action)).toEqual(['none', 'none'])
  const other = await control.importHosts({ format: 'csv', text: csv.replace(',secret,', ',other,'), dryRun: true })
  expect(other.hosts.map(({ action }) => action)).toEqual(['change', 'none'])
  expect(JSON.stringify(other)).not.toContain('other')
})

test('each bad line is named, and nothing of the file is imported', async () => {
  const bad = `${csv}n_3,52:54:00:00:00:03,,,,manual,,,,
n04,52:54:00:00:00:01,,,,manual,,,,
n05,52:54:00:00:00:05,,,,telepathy,,,,
n01,52:54:00:00:00:06,,,,manual,,,,
n07,,,,,manual,,,,
`
  const dry = await control.importHosts({ format: 'csv', text: bad, dryRun: true })
  expect(dry.problems.map(({ line }) => line)).toEqual([4, 5, 6, 7, 8])
  const failure = await control.importHosts({ format: 'csv', text: bad }).catch((error: unknown) => error)
  expect(failure).toBeInstanceOf(Failure)
  const { message } = failure as Failure
  for (const part of ['line 4: `name`', 'line 5: the MAC address', 'line 6:', 'line 7: host n01', 'line 8:']) {
    expect(message).toContain(part)
  }
  expect(await names()).toEqual([])
})

test('what is exported can be imported, in both formats', async () => {
  await control.importHosts({ format: 'csv', text: csv })
  const { hosts } = await control.listHosts({})
  for (const format of ['yaml', 'csv'] as const) {
    const again = await control.importHosts({ format, text: writeHostFile(format, hosts) })
    expect(again.hosts.map(({ action }) => action)).toEqual(['none', 'none'])
  }
})

test('text that is no file of hosts is refused with its line, whatever it is', async () => {
  const anchors = `a: &a [x,x]\nhosts: [{name: *a}]`
  for (const [format, text] of [
    ['csv', 'name,colour\nn01,red\n'],
    ['csv', 'name,mac\nn01,"52'],
    ['csv', 'name\nn01,2,3\n'],
    ['csv', 'name\n'],
    ['yaml', 'hosts: [1'],
    ['yaml', '- 1'],
    ['yaml', 'name: n01'],
    ['yaml', anchors],
    ['yaml', '['.repeat(100_000)],
    ['yaml', `[${'{a: '.repeat(50_000)}`],
  ] as const) {
    await expect(control.importHosts({ format, text }), text).rejects.toMatchObject({ code: 'bad-input' })
  }
})

test('reading any text ends in entries or in a failure', () => {
  fc.assert(
    fc.property(fc.constantFrom('yaml' as const, 'csv' as const), fc.string({ unit: 'binary' }), (format, text) => {
      try {
        readHostFile(format, text)
      } catch (error) {
        expect(error).toBeInstanceOf(Failure)
      }
    }),
  )
})
