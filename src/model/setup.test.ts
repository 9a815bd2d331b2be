import { expect, test } from 'vitest'
import { Failure } from './failure.ts'
import { defaultDeadlines, parseSetup } from './setup.ts'
import { defaultTransferPolicy } from './transfer-policy.ts'

const document = (inside: string, attributes = 'name="demo"'): string =>
  `<?xml version="1.0"?>\n<setup xmlns="urn:hades:setup:1" ${attributes}>\n${inside}\n</setup>`

test('a whole document becomes the setup it describes', () => {
  const xml = document(`<description>Debian on the big disk</description>
<disk>
  <hint property="size" operator="ge" value="4GiB"/>
  <hint property="serial" value="A17"/>
  <image>debian:12</image>
</disk>
<transfer engine="aria2" linger="2min" egress="50MB/s" ingress="100M"/>
<finish action="poweroff" target="hold"/>
<probe><tcp port="22" expect="SSH-"/></probe>
<deadlines boot="90s" deploy="2h" observe="5min" attempts="2"/>`)
  expect(parseSetup(xml)).toEqual({
    name: 'demo',
    layout: {
      disks: [
        {
          name: 'system',
          hints: [
            { property: 'size', operator: 'ge', value: String(4 * 2 ** 30) },
            { property: 'serial', operator: 'eq', value: 'A17' },
          ],
          erase: 'none',
          partitions: [],
          content: { kind: 'image', image: 'debian:12' },
        },
      ],
      arrays: [],
      groups: [],
    },
    postInstall: undefined,
    redeploy: 'full',
    transfer: {
      engine: 'aria2',
      lingerSeconds: 120,
      egressBytesPerSecond: 50_000_000,
      ingressBytesPerSecond: 100_000_000,
    },
    finish: { action: 'poweroff', target: 'hold' },
    probe: { kind: 'tcp', port: 22, expect: 'SSH-' },
    deadlines: { bootMs: 90_000, deployMs: 7_200_000, observeMs: 300_000, attempts: 2 },
  })
})

test('a short document gets the defaults', () => {
  const setup = parseSetup(document('<disk><image>debian:12</image></disk>'))
  expect(setup.finish).toEqual({ action: 'reboot', target: 'local' })
  expect(setup.transfer).toEqual(defaultTransferPolicy)
  expect(setup.probe).toEqual({ kind: 'dhcp' })
  expect(setup.deadlines).toEqual(defaultDeadlines)
})

const disk = '<disk><image>debian:12</image></disk>'

test('a host may be told not to stay as a source, and what its transfer does not say has its default', () => {
  const { transfer } = parseSetup(document(`${disk}<transfer linger="0s" ingress="64 kB/s"/>`))
  expect(transfer).toEqual({ ...defaultTransferPolicy, lingerSeconds: 0, ingressBytesPerSecond: 64_000 })
})

test.each([
  ['a wrong element', document('<disc/>'), 3, /disc/],
  ['an element too many', document(`${disk}\n${disk}`), 4, /disk/],
  ['a missing disk', document(''), 2, /disk/],
  ['a missing name', document(disk, ''), 2, /name/],
  ['a wrong name', document(disk, 'name="A b"'), 2, /name/],
  ['an image without version', document('<disk><image>debian</image></disk>'), 3, /image/],
  ['an unknown attribute', document('<disk sort="x"><image>debian:12</image></disk>'), 3, /sort/],
  [
    'an unknown property',
    document('<disk>\n<hint property="colour" value="x"/><image>a:1</image></disk>'),
    4,
    /colour/,
  ],
  ['a size in words', document('<disk>\n<hint property="size" value="big"/><image>a:1</image></disk>'), 4, /big/],
  [
    'an ordered serial',
    document('<disk>\n<hint property="serial" operator="lt" value="x"/><image>a:1</image></disk>'),
    4,
    /operator/,
  ],
  ['a port out of range', document(`${disk}\n<probe><tcp port="70000"/></probe>`), 4, /port|70000/],
  ['an unknown engine', document(`${disk}\n<transfer engine="rsync"/>`), 4, /engine.*rsync/],
  ['a rate in words', document(`${disk}\n<transfer egress="fast"/>`), 4, /egress.*fast/],
  ['a rate in bits', document(`${disk}\n<transfer ingress="50Mb/s"/>`), 4, /`ingress`: `50Mb\/s`/],
  ['a rate of nearly nothing', document(`${disk}\n<transfer egress="999"/>`), 4, /`egress`: `999`/],
  ['an endless linger', document(`${disk}\n<transfer linger="25h"/>`), 4, /`linger`: `25h`/],
  ['a transfer before the disk', document(`<transfer/>${disk}`), 3, /transfer/],
  ['a wrong duration', document(`${disk}\n<deadlines boot="soon"/>`), 4, /boot|soon/],
  ['a document type', `<!DOCTYPE setup [<!ENTITY a "b">]>\n${document(disk).slice(22)}`, 1, /DOCTYPE/],
  ['an entity', document('<description>&a;</description>'), 3, /entity/],
  ['a processing instruction', document('<?php x?>'), 3, /php/],
  ['text that is no XML', 'hello', 1, /well-formed/],
  ['an unclosed element', document('<disk>'), 4, /well-formed/],
  ['another namespace', '<setup xmlns="urn:other" name="x"/>', 1, /setup/],
  ['an endless nesting', document('<a>'.repeat(50_000)), 3, /nested/],
])('%s is refused with its line', (_what, xml, line, message) => {
  let failure: unknown
  try {
    parseSetup(xml)
  } catch (error) {
    failure = error
  }
  expect(failure).toBeInstanceOf(Failure)
  expect(failure).toMatchObject({ code: 'setup-invalid', at: `line ${line}`, message: expect.stringMatching(message) })
})

test('a root that holds no system is told with the line of post-install', () => {
  const xml = document(`<disk><table type="gpt">
<partition number="1" type="linux" size="1GiB"><filesystem type="ext4" mount="/"/></partition>
<partition number="2" type="linux"><image>debian:12</image></partition>
</table></disk>
<post-install root="system:1"><hostname/></post-install>`)
  expect(() => parseSetup(xml)).toThrow('line 7: post-install names the root `system:1`, which is an empty file system')
})
