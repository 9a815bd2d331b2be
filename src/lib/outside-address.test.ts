import { expect, test } from 'vitest'
import { isOutside } from './outside-address.ts'

test('this machine, its link and groups are inside, however they are written; all else is outside', () => {
  const inside = ['127.0.0.1', '127.8.8.8', '0.0.0.0', '169.254.169.254', '224.0.0.1', '255.255.255.255', '::1', '::']
  const mapped = [
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '::ffff:169.254.169.254',
    '64:ff9b::7f00:1',
    'fe80::1',
    'ff02::1',
  ]
  for (const address of [...inside, ...mapped, 'localhost', '', '2130706433'])
    expect(isOutside(address), address).toBe(false)
  for (const address of ['10.0.0.1', '192.168.1.1', '8.8.8.8', '::ffff:8.8.8.8', '2001:db8::1', 'fd00::1']) {
    expect(isOutside(address), address).toBe(true)
  }
})
