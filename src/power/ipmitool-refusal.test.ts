import { expect, test } from 'vitest'
import { readRefusal } from './ipmitool-refusal.ts'

const opened = 'Loading IANA PEN Registry...\n'
const notOpened = '\nError: Unable to establish IPMI v2 / RMCP+ session\n'

// What ipmitool 1.8.19 prints where ipmi_sim cannot be brought to it; the strings are those of its lanplus.c and
// ipmi_strings.c. The rest is tested with the real tool in ipmi.test.ts.
test.each([
  ['RAKP 4 message indicates an error : invalid integrity check value', 'bmc-refused', 'password'],
  ['> RAKP 4 message has invalid integrity check value', 'bmc-refused', 'password'],
  ['RAKP 2 message indicates an error : unauthorized role requested', 'bmc-refused', 'options.privilege'],
  ['RAKP 2 message indicates an error : insufficient resources for session', 'bmc-unreachable', undefined],
  ['Error in open session response message : insufficient resources for session', 'bmc-unreachable', undefined],
  ['Error in open session response message : no matching cipher suite', 'bmc-refused', 'options.cipher'],
  ['Set Session Privilege Level to ADMINISTRATOR failed: Unknown (0x81)', 'bmc-refused', 'options.privilege'],
  ['Set Chassis Power Control to Up/On failed: Node busy', 'bmc-unreachable', undefined],
  ['Set Chassis Power Control to Up/On failed: BMC initialization in progress', 'bmc-unreachable', undefined],
  ['Set Chassis Power Control to Up/On failed: Device firmeware in update mode', 'bmc-unreachable', undefined],
  ['Set Chassis Power Control to Up/On failed: Insufficient privilege level', 'bmc-refused', 'options.privilege'],
  ['Set Chassis Power Control to Up/On failed: Command not supported in present state', 'bmc-refused', undefined],
  ['Unable to set Chassis Power Control to Up/On', 'bmc-unreachable', undefined],
  ['Address lookup for nosuch.invalid failed', 'bmc-unreachable', 'address'],
  ['This BMC does not support IPMI v2 / RMCP+', 'bmc-refused', undefined],
  ['something new', 'bmc-refused', undefined],
])('%s: %s at %s', (line, code, at) => {
  const ending =
    line.startsWith('Set Chassis') || line.startsWith('Unable') || line === 'something new' ? '' : notOpened
  const refusal = readRefusal(`${opened}${line}${ending}`)
  expect(refusal).toMatchObject({ code, line })
  expect(refusal.at).toBe(at)
})

test('a login that got through at the second attempt is not blamed for a later silence', () => {
  const refusal = readRefusal(`${opened}> Error: no response from RAKP 1 message\nUnable to get Chassis Power Status\n`)
  expect(refusal.code).toBe('bmc-unreachable')
})

test('no word at all is silence', () => {
  expect(readRefusal(opened)).toMatchObject({ code: 'bmc-unreachable', line: undefined })
})
