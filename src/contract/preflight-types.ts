// The preflight, as it travels. What types.ts says at its top holds here too.
import { type Static, Type } from 'typebox'
import { checkOutcomes } from '../model/preflight.ts'
import { operation } from './operation.ts'
import { label, nodeset, words } from './types.ts'

const outcome = words(checkOutcomes, { title: 'CheckOutcome' })

const preflightCheck = Type.Object(
  {
    name: label,
    outcome,
    says: Type.String({ maxLength: 4000, description: 'What was seen' }),
    fix: Type.Optional(Type.String({ maxLength: 4000, description: 'What to do, unless all is well' })),
  },
  { title: 'PreflightCheck' },
)
export type PreflightView = {
  readonly outcome: Static<typeof outcome>
  readonly checks: readonly Static<typeof preflightCheck>[]
}

export const preflightOperations = {
  runPreflight: operation({
    summary: 'Looks at network, service and controllers before the first machine; changes nothing',
    // Controllers are asked with the passwords of their hosts.
    access: 'operator',
    rest: { method: 'POST', path: '/preflight' },
    input: Type.Object({ nodeset: Type.Optional(nodeset) }),
    output: Type.Object({ outcome, checks: Type.Array(preflightCheck) }),
    failures: ['unknown-host', 'wrong-state'],
  }),
}
