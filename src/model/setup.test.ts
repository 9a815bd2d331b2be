import { expect, test } from 'vitest'
import { Failure } from './failure.ts'
import { defaultDeadlines, parseSetup } from './setup.ts'

const document = (inside: string, attributes = 'name="demo"'): string =>
  `<?xml version="1.0"?>\n<setup xmlns="urn:hades:setup:1" ${attributes}>\n${inside}\n</setup>`

test('a whole document becomes the setup it describes', () => {
  const xml = document(`<description>Debian on the big disk</description>
<disk>
  <hint property="size" operator="ge" value="4GiB"/>
  <hint property="serial" value="A17"/>
  <image>debian:12</image>
</disk>
<finish action="poweroff" target="hold"/>
<probe><tcp port="22" expect="SSH-"/></probe>
<deadlines boot="90s" deploy="2h" observe="5min" attempts="2"/>`)
  expect(parseSetup(xml)).toEqual({
    name: 'demo',
    disk: {
      hints: [
        { property: 'size', operator: 'ge', value: String(4 * 2 ** 30) },
        { property: 'serial', operator: 'eq', value: 'A17' },
      ],
      image: { name: 'debian', version: '12' },
    },
    finish: { action: 'poweroff', target: 'hold' },
    probe: { kind: 'tcp', port: 22, expect: 'SSH-' },
    deadlines: { bootMs: 90_000, deployMs: 7_200_000, observeMs: 300_000, attempts: 2 },
  })
})

test('a short document gets the defaults', () => {
  const setup = parseSetup(document('<disk><image>debian:12</image></disk>'))
  expect(setup.finish).toEqual({ action: 'reboot', target: 'local' })
  expect(setup.probe).toEqual({ kind: 'dhcp' })
  expect(setup.deadlines).toEqual(defaultDeadlines)
})

const disk = '<disk><image>debian:12</image></disk>'

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
