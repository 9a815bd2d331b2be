// Setups, the scripts that they name, and what differs between two of them.
import { type Static, Type } from 'typebox'
import { changeKinds } from '../model/setup-diff.ts'
import { dateTime, label, sha256, words } from './types.ts'

export const setupXml = Type.String({ minLength: 1, maxLength: 262_144, description: 'The setup document' })

export const scriptName = Type.String({ maxLength: 100, pattern: '^[a-z0-9][a-z0-9._-]*$' })
export const scriptReference = Type.String({
  title: 'ScriptReference',
  maxLength: 110,
  pattern: '^[a-z0-9][a-z0-9._-]*(:[1-9][0-9]{0,8})?$',
  description: 'A script of the library, as `name` (its newest version) or `name:version`',
})
export const scriptText = Type.String({ minLength: 1, maxLength: 65_536 })

export const script = Type.Object(
  {
    name: label,
    version: Type.Integer({ minimum: 1 }),
    createdAt: dateTime,
    sha256,
    characters: Type.Integer({ minimum: 0 }),
  },
  { title: 'Script' },
)
export type ScriptView = Static<typeof script>

const shown = Type.String({ maxLength: 4000 })

export const setupChange = Type.Object(
  {
    kind: words(changeKinds),
    subject: Type.String({ maxLength: 190, description: 'A place, such as `system:2`, or a part of the setup' }),
    what: Type.String({ maxLength: 190, description: 'What of it, such as `size`' }),
    from: Type.Optional(shown),
    to: Type.Optional(shown),
  },
  { title: 'SetupChange' },
)
export type SetupChangeView = Static<typeof setupChange>
