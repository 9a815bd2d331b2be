// What ipmitool's words on failure mean. The tool ends with the same code and the same last line whether the controller
// was silent, refused the password or knows no such cipher; the lines before it tell (seen with 1.8.19 and `-v`).
import type { FailureCode } from '../model/failure.ts'

/** `says` goes on from "controller 10.0.0.1 ...". `line` is the tool's line that told it, or its last one. */
export type Refusal = {
  readonly code: Extract<FailureCode, 'bmc-unreachable' | 'bmc-refused'>
  readonly says: string
  readonly at?: 'username' | 'password' | 'login' | 'address' | 'options.cipher' | 'options.privilege'
  readonly line: string | undefined
}

// The first that matches any line wins, so login refusals, which must not be repeated, stand first.
const meanings: readonly (Omit<Refusal, 'line'> & { readonly told: RegExp })[] = [
  {
    // IPMI 2.0, 13.21 and 13.23: RAKP 2 and 4 carry a keyed hash that only fits when both sides know the same password.
    told: /RAKP 2 HMAC is invalid|RAKP 4 message has invalid integrity|RAKP [24] message .* invalid integrity check value/,
    code: 'bmc-refused',
    at: 'password',
    says: 'refused the password: correct it in the power method',
  },
  {
    told: /RAKP [24] message indicates an error : (?:unauthorized name|invalid name length)/,
    code: 'bmc-refused',
    at: 'username',
    says: 'does not know the user name: correct it in the power method',
  },
  {
    told: /RAKP [24] message .*role|Set Session Privilege Level to .* failed: |^(?:Get|Set) .*: Insufficient privilege level$/,
    code: 'bmc-refused',
    at: 'options.privilege',
    says: 'does not give the user the privilege asked for (option `privilege`)',
  },
  { told: /insufficient resources for session/, code: 'bmc-unreachable', says: 'has no session free' },
  {
    told: /(?:open session response|RAKP [24]) message.*(?:algorithm|payload|cipher suite)/,
    code: 'bmc-refused',
    at: 'options.cipher',
    says: 'does not offer the cipher suite (option `cipher`)',
  },
  {
    told: /Address lookup for .* failed/,
    code: 'bmc-unreachable',
    at: 'address',
    says: 'has a name that does not resolve',
  },
  {
    told: /Get Auth Capabilities error$|Could not open socket|^Unable to (?:get|set) Chassis/,
    code: 'bmc-unreachable',
    says: 'does not answer',
  },
  {
    // Four attempts inside the tool, each answered up to here: more than a lost packet, and some controllers treat a
    // refused login so. It is not called silence, because silence is asked again.
    told: /no response from RAKP [13] message/,
    code: 'bmc-refused',
    at: 'login',
    says: 'went silent in the middle of the login, as some do to a wrong user name or password',
  },
  { told: /does not support IPMI v2/, code: 'bmc-refused', says: 'does not speak IPMI 2.0' },
  {
    // Completion codes C0h, C3h, C4h, D0h-D2h (IPMI 2.0 table 5-2): the controller is there and will do it later.
    told: /: (?:Node busy|Timeout|Out of space|\S+ \S+ in update mode|BMC initialization in progress)$/,
    code: 'bmc-unreachable',
    says: 'is busy',
  },
]

/** Reads the tool's error output. What nothing above explains is a refusal, because repeating it is not known to be safe. */
export function readRefusal(stderr: string): Refusal {
  const lines = stderr.split('\n').map((line) => line.trim().slice(0, 200))
  for (const { told, ...refusal } of meanings) {
    const line = lines.find((line) => told.test(line))
    if (line !== undefined) return { ...refusal, line }
  }
  // The tool announces its vendor list under `-v`, which explains nothing.
  const line = lines.findLast((line) => line !== '' && !line.startsWith('Loading IANA'))
  if (line === undefined) return { code: 'bmc-unreachable', says: 'does not answer', line }
  return { code: 'bmc-refused', says: 'refused', line }
}
