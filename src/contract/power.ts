// The Power Port of the PFC service: one way to switch any machine, whatever its controller speaks (paper, section II.C).
import { Type } from 'typebox'
import { operation, type Port } from './operation.ts'
import { bootDevice, hostName, nodeset, powerAction, powerOutcome } from './types.ts'

const method = Type.Optional(
  Type.Integer({ minimum: 1, maximum: 8, description: "Which of each host's power methods; the first unless given" }),
)
const outcomes = Type.Object({ outcomes: Type.Array(powerOutcome) })

export const powerOperations = {
  getPower: operation({
    summary: 'Asks the controllers of hosts, now, whether they are on',
    access: 'viewer',
    rest: { method: 'GET', path: '/power' },
    input: Type.Object({ nodeset }),
    output: outcomes,
    failures: ['unknown-host'],
  }),
  setPower: operation({
    summary: 'Switches hosts and reads the reached state back; one host failing is a row, not a failure of the call',
    access: 'operator',
    rest: { method: 'POST', path: '/power' },
    input: Type.Object({
      nodeset,
      action: powerAction,
      soft: Type.Optional(
        Type.Boolean({
          description: 'Before `off` and `cycle`, lets the system shut down by itself for up to a minute',
        }),
      ),
      offSeconds: Type.Optional(
        Type.Integer({
          minimum: 1,
          maximum: 300,
          description: 'How long `cycle` leaves the machine off (1): power supplies take some time to run empty',
        }),
      ),
      method,
    }),
    output: outcomes,
    once: 'acts',
    failures: ['unknown-host'],
  }),
  setBootDevice: operation({
    summary: 'Tells the controllers what hosts boot first at their next power-on',
    access: 'operator',
    rest: { method: 'POST', path: '/boot-device' },
    input: Type.Object({ nodeset, device: bootDevice, method }),
    output: outcomes,
    once: 'acts',
    failures: ['unknown-host'],
  }),
  testPower: operation({
    summary: 'Tries to reach the controller of a host, log in and read the state, and says which of them failed',
    access: 'operator',
    rest: { method: 'POST', path: '/hosts/{host}/test' },
    input: Type.Object({ host: hostName }),
    output: Type.Object({ outcome: powerOutcome }),
    failures: ['unknown-host', 'no-power-method'],
  }),
  listPowerDrivers: operation({
    summary: 'The names of the power drivers there are',
    access: 'viewer',
    rest: { method: 'GET', path: '/drivers' },
    input: Type.Object({}),
    output: Type.Object({ drivers: Type.Array(Type.String()) }),
    failures: [],
  }),
}

export const powerPort: Port<typeof powerOperations> = {
  name: 'power',
  summary: 'Power Port of HaDeS (platform control): switches machines',
  namespace: 'urn:hades:power:1',
  operations: powerOperations,
}
