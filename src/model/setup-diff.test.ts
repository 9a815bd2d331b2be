import { expect, test } from 'vitest'
import { parseSetup } from './setup.ts'
import { diffSetups } from './setup-diff.ts'

const document = (inside: string, name = 'demo'): string =>
  `<setup xmlns="urn:hades:setup:1" name="${name}">${inside}</setup>`

const diff = (from: string, to: string) => diffSetups(parseSetup(document(from)), parseSetup(document(to)))

const disk = (partitions: string) => `<disk><table type="gpt">${partitions}</table></disk>`
const root = '<partition size="2GiB"><image>a:1</image></partition>'

test('what is written otherwise and means the same makes no difference', () => {
  const plain = '<disk><image>a:1</image></disk>'
  const wordy = `<description>x</description><!-- c -->
<disk erase="none" name="system">  <image>a:1</image></disk><transfer engine="swarm" linger="60s"/><finish/>`
  expect(diff(plain, wordy)).toEqual([])
})

test('a size, an image and a partition that is gone are told in their places', () => {
  const before = disk(`${root}<partition size="1GiB"><swap/></partition>`)
  const after = disk('<partition size="4GiB"><image>a:2</image></partition>')
  expect(diff(before, after)).toEqual([
    { kind: 'changed', subject: 'system:1', what: 'size', from: '2 GiB', to: '4 GiB' },
    { kind: 'changed', subject: 'system:1', what: 'image', from: 'a:1', to: 'a:2' },
    {
      kind: 'removed',
      subject: 'system:2',
      what: 'all of it',
      from: 'size 1 GiB, type linux, content swap',
    },
  ])
})

test('hints, erasure and what comes after are told', () => {
  const after = `<disk erase="zero"><hint property="serial" value="A1"/><table type="gpt">${root}</table></disk>
<post-install><hostname/><grow/><script name="hello">echo 1</script></post-install>
<probe><tcp port="22"/></probe>`
  expect(diff(disk(root), after)).toEqual([
    { kind: 'added', subject: 'disk system', what: 'hints', to: 'serial eq A1' },
    { kind: 'added', subject: 'disk system', what: 'erase', to: 'zero' },
    { kind: 'changed', subject: 'probe', what: 'kind', from: 'dhcp', to: 'tcp' },
    { kind: 'added', subject: 'probe', what: 'port', to: '22' },
    {
      kind: 'added',
      subject: 'post-install',
      what: 'all of it',
      to: 'hostname {{host}}, grow last, network keep, scripts hello',
    },
    {
      kind: 'added',
      subject: 'script hello',
      what: 'all of it',
      to: 'where chroot, timeout ms 300000, text echo 1',
    },
  ])
})

test('of a long text the first line that differs is shown', () => {
  const script = (text: string) =>
    `${disk(root)}<post-install><script name="s">#!/bin/sh\n${text}\nexit 0\n</script></post-install>`
  expect(diff(script('echo 1'), script('echo 2\necho 3'))).toEqual([
    {
      kind: 'changed',
      subject: 'script s',
      what: 'text',
      from: 'line 2 of 4: echo 1',
      to: 'line 2 of 5: echo 2',
    },
  ])
})
