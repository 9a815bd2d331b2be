// The part of the Control Port that is about setups and the scripts that they name.
import { Type } from 'typebox'
import { operation } from './operation.ts'
import { pageInput, pageOutput } from './paging.ts'
import { script, scriptName, scriptReference, scriptText, setupChange, setupXml } from './setup-types.ts'
import { imageReference, label, setupReference, setupView } from './types.ts'

export const setupOperations = {
  putSetup: operation({
    summary: 'Stores a setup document as the next version of its name',
    access: 'operator',
    rest: { method: 'POST', path: '/setups' },
    input: Type.Object({ xml: setupXml }),
    output: Type.Object({ setup: setupView }),
    once: 'recorded',
    failures: ['setup-invalid', 'unknown-image', 'unknown-script', 'unknown-profile'],
  }),
  validateSetup: operation({
    summary: 'Checks a setup document, also against the images and scripts that there are, and stores nothing',
    access: 'viewer',
    rest: { method: 'POST', path: '/setups/validate' },
    input: Type.Object({ xml: setupXml }),
    output: Type.Object({ name: Type.String(), images: Type.Array(imageReference) }),
    failures: ['setup-invalid', 'unknown-image', 'unknown-script', 'unknown-profile'],
  }),
  getSetup: operation({
    summary: 'The document of a setup, its newest version unless one is named',
    access: 'viewer',
    rest: { method: 'GET', path: '/setups/{reference}' },
    input: Type.Object({ reference: setupReference }),
    output: Type.Object({ setup: setupView, xml: setupXml }),
    failures: ['unknown-setup'],
  }),
  listSetups: operation({
    summary: 'Setups, each in its newest version, or in all of them; all or one by its name',
    access: 'viewer',
    rest: { method: 'GET', path: '/setups' },
    input: Type.Object({
      name: Type.Optional(
        Type.String({ maxLength: 190, pattern: '^[a-z0-9][a-z0-9._-]*$', description: 'Only this setup' }),
      ),
      versions: Type.Optional(Type.Boolean({ description: 'Every version, the newest first' })),
      ...pageInput(),
    }),
    output: Type.Object({ setups: Type.Array(setupView), ...pageOutput }),
    failures: ['unknown-setup'],
  }),
  diffSetups: operation({
    summary: 'What differs in meaning between a stored setup and another stored one, or a document',
    access: 'viewer',
    rest: { method: 'POST', path: '/setups/diff' },
    input: Type.Object({
      from: setupReference,
      to: Type.Optional(setupReference),
      xml: Type.Optional(Type.String({ ...setupXml, description: 'A document instead of `to`' })),
      withText: Type.Optional(Type.Boolean({ description: 'Gives the difference of the documents too, line by line' })),
    }),
    output: Type.Object({
      from: setupReference,
      to: label,
      changes: Type.Array(setupChange, { maxItems: 10_000 }),
      text: Type.Optional(Type.String({ description: 'In the unified format; empty when no line differs' })),
    }),
    failures: ['unknown-setup', 'setup-invalid'],
  }),

  putScript: operation({
    summary: 'Stores a script as the next version of its name; setups name it with `library`',
    access: 'admin',
    rest: { method: 'POST', path: '/scripts' },
    input: Type.Object({ name: scriptName, text: scriptText }),
    output: Type.Object({ script }),
    once: 'recorded',
    failures: [],
  }),
  getScript: operation({
    summary: 'A script with its text, its newest version unless one is named',
    access: 'viewer',
    rest: { method: 'GET', path: '/scripts/{reference}' },
    input: Type.Object({ reference: scriptReference }),
    output: Type.Object({ script, text: scriptText }),
    failures: ['unknown-script'],
  }),
  listScripts: operation({
    summary: 'Scripts, each in its newest version, or all versions of one',
    access: 'viewer',
    rest: { method: 'GET', path: '/scripts' },
    input: Type.Object({ name: Type.Optional(scriptName), ...pageInput() }),
    output: Type.Object({ scripts: Type.Array(script), ...pageOutput }),
    failures: ['unknown-script'],
  }),
  removeScript: operation({
    summary: 'Removes one version of a script, or all, when no setup and no deployment under way uses it',
    access: 'admin',
    rest: { method: 'DELETE', path: '/scripts/{reference}' },
    input: Type.Object({ reference: scriptReference }),
    output: Type.Object({}),
    failures: ['unknown-script', 'in-use'],
  }),
}
