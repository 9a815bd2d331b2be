import { inspect } from 'node:util'
import { expect, test } from 'vitest'
import { parseArguments } from './arguments.ts'

test('the words of the kernel command line are read among all others', () => {
  const given = parseArguments(
    'BOOT_IMAGE=/vmlinuz console=ttyS0 hades.service=http://10.77.0.1:7780 hades.host=n01 hades.mac=52:54:00:12:34:01 hades.token=abc=def quiet\n',
  )
  expect(given).toMatchObject({ service: 'http://10.77.0.1:7780', host: 'n01' })
  expect(given.token.reveal()).toBe('abc=def')
  expect(inspect(given)).not.toContain('abc')
})

test('a service that is called by TLS is known by its pin, and is not believed without one', () => {
  const words = 'hades.service=https://10.77.0.1:7743 hades.host=n01 hades.token=t'
  const pin = 'ab'.repeat(32)
  expect(parseArguments(`${words} hades.pin=${pin}`)).toMatchObject({ pin, service: 'https://10.77.0.1:7743' })
  expect(() => parseArguments(words)).toThrow(/hades.pin is missing/)
  expect(() => parseArguments(`${words} hades.pin=abc`)).toThrow(/hades.pin is wrong/)
})

test('of a word given twice the last counts', () => {
  const words = 'hades.service=http://a:1 hades.token=t hades.host=n01 hades.host=n02'
  expect(parseArguments(words)).toMatchObject({ purpose: 'deployment', host: 'n02' })
})

test('a machine that is to report what it is has a MAC address in place of a name', () => {
  const words = 'hades.service=http://a:1 hades.token=t hades.agent=report'
  const given = parseArguments(`${words} hades.mac=52:54:00:12:34:0A`)
  expect(given).toMatchObject({ purpose: 'report', mac: '52:54:00:12:34:0a' })
  expect(() => parseArguments(words)).toThrow(/hades.mac is missing/)
  expect(() => parseArguments(`${words} hades.mac=n01`)).toThrow(/hades.mac is wrong/)
})

test.each([
  ['hades.host=n01 hades.token=secret', 'hades.service is missing'],
  ['hades.service=http://a:1 hades.token=secret', 'hades.host is missing'],
  ['hades.service=http://a:1 hades.host=n01', 'hades.token is missing'],
  ['hades.service=http://a:1 hades.host=n01 hades.token=', 'hades.token is wrong'],
  ['hades.service=ftp://a hades.host=n01 hades.token=secret', 'hades.service is wrong'],
  ['hades.service=http://a:1 hades.host=N_01 hades.token=secret', 'hades.host is wrong'],
])('%j is refused by name and without showing a value', (words, message) => {
  expect(() => parseArguments(words)).toThrow(expect.objectContaining({ code: 'bad-input' }))
  expect(() => parseArguments(words)).toThrow(message)
  expect(() => parseArguments(words)).not.toThrow('secret')
})
