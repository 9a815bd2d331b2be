// The import law: which folder of src/ may import which. `oxlint` fails on any other import, type imports included,
// and on every cycle. docs/decisions/0001-layout.md says why the table looks as it does.
import { defineConfig, type OxlintOverride } from 'oxlint'

const mayImport: Readonly<Record<string, readonly string[]>> = {
  lib: [],
  protocol: ['lib'],
  model: ['lib'],
  contract: ['lib', 'model'],
  db: ['lib', 'model'],
  power: ['lib', 'protocol', 'model'],
  image: ['lib', 'protocol', 'model'],
  swarm: ['lib', 'protocol', 'model', 'image'],
  client: ['lib', 'protocol', 'model', 'contract'],
  boot: ['lib', 'protocol', 'model', 'db'],
  deploy: ['lib', 'model', 'contract', 'db', 'image', 'swarm', 'client'],
  operations: ['lib', 'model', 'contract', 'db', 'power', 'image'],
  ports: ['lib', 'protocol', 'model', 'contract'],
  agent: ['lib', 'protocol', 'model', 'contract', 'image', 'swarm', 'client'],
  cli: ['lib', 'model', 'contract', 'client'],
  main: [
    'lib',
    'protocol',
    'model',
    'contract',
    'db',
    'power',
    'image',
    'swarm',
    'client',
    'boot',
    'deploy',
    'operations',
    'ports',
    'agent',
    'cli',
  ],
}

const outside = ['lab', 'bench', 'test', 'scout', 'tools']

function lawOf(folder: string, allowed: readonly string[]): OxlintOverride {
  const forbidden = Object.keys(mayImport).filter((other) => other !== folder && !allowed.includes(other))
  return {
    files: [`src/${folder}/**/*.ts`],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            {
              group: [
                // From the folder itself, and from a folder inside it.
                ...forbidden.flatMap((other) => [`../${other}/*`, `../../${other}/*`]),
                ...(folder === 'main' ? [] : outside.flatMap((other) => [`../../${other}/**`, `../../../${other}/**`])),
              ],
              message: `src/${folder} may import only: ${allowed.join(', ') || 'nothing of ours'} (oxlint.config.ts)`,
            },
          ],
        },
      ],
    },
  }
}

export default defineConfig({
  ignorePatterns: ['node_modules', 'build'],
  plugins: ['typescript', 'import', 'unicorn', 'promise'],
  options: { typeAware: true },
  categories: { correctness: 'error', suspicious: 'error' },
  rules: {
    'import/no-cycle': ['error', { ignoreTypes: false }],
    'import/no-default-export': 'error',
    'import/no-unassigned-import': 'off',
    'typescript/no-floating-promises': 'error',
    'typescript/no-misused-promises': 'error',
    'typescript/await-thenable': 'error',
    'typescript/no-explicit-any': 'error',
    'typescript/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
    'typescript/no-unsafe-type-assertion': 'off',
    'no-await-in-loop': 'off',
    'no-shadow': 'off',
    'import/no-named-as-default': 'off',
    'import/no-named-as-default-member': 'off',
    'consistent-return': 'off',
    'typescript/consistent-return': 'off',
    'no-underscore-dangle': 'off',
    'unicorn/no-array-sort': 'off',
    'unicorn/no-array-reverse': 'off',
    'unicorn/consistent-function-scoping': 'off',
    'promise/always-return': 'off',
    'max-lines-per-function': ['warn', { max: 70, skipBlankLines: true, skipComments: true }],
  },
  overrides: [
    ...Object.entries(mayImport).map(([folder, allowed]) => lawOf(folder, allowed)),
    {
      files: ['**/*.test.ts', '**/*.conformance.ts', 'test/**/*.ts'],
      rules: { 'no-restricted-imports': 'off', 'max-lines-per-function': 'off' },
    },
    { files: ['*.config.ts', 'tools/tally-reporter.ts'], rules: { 'import/no-default-export': 'off' } },
  ],
})
