// The part of the Control Port that takes many hosts at once, from a file.
import { Type } from 'typebox'
import { hostFileFormats } from '../model/host-file.ts'
import { operation } from './operation.ts'
import { label, words } from './types.ts'

const line = Type.Integer({ minimum: 1, description: 'Of the text, where the host begins' })

const importedHost = Type.Object(
  {
    line,
    name: label,
    action: words(['add', 'change', 'none']),
    changes: Type.Array(Type.String({ maxLength: 1000 }), { description: 'What becomes of which field, in words' }),
  },
  { title: 'ImportedHost' },
)

const importProblem = Type.Object(
  { line, at: Type.Optional(label), text: Type.String({ maxLength: 4000 }) },
  { title: 'ImportProblem' },
)

/** As long as a file of ten thousand hosts. */
export const hostFileLengthMax = 3_000_000

export const hostFileOperations = {
  importHosts: operation({
    summary: 'Adds and changes the hosts of a file, all of them or none; hosts that are not in it stay as they are',
    access: 'admin',
    rest: { method: 'POST', path: '/hosts/import' },
    input: Type.Object({
      format: words(hostFileFormats),
      text: Type.String({ minLength: 1, maxLength: hostFileLengthMax, description: 'What stands in the file' }),
      dryRun: Type.Optional(
        Type.Boolean({ description: 'Only says what would become of each host, and what is wrong' }),
      ),
    }),
    output: Type.Object({
      hosts: Type.Array(importedHost),
      problems: Type.Array(importProblem, { description: 'Only of a dry run; else they are a failure' }),
    }),
    once: 'recorded',
    bodyBytesMax: 2 * hostFileLengthMax,
    failures: ['already-exists', 'unknown-driver', 'unknown-setup', 'unknown-profile'],
  }),
}
