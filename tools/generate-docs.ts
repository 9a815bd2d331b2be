// Writes the reference pages that derive from the contract: docs/api.md and docs/failures.md, from the program: docs/cli.md,
// from the schema of settings: docs/config.md, from the state machine: docs/states.md,
// and from the schema of setups and from examples/ the end of docs/setup.md. A test holds the pages against what would be written now.
import { readFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import type { TSchema } from 'typebox'
import { buildProgram } from '../src/cli/program.ts'
import { controlPort } from '../src/contract/control.ts'
import { failureMeanings } from '../src/contract/failures.ts'
import { commonFailures, type Port } from '../src/contract/operation.ts'
import { powerPort } from '../src/contract/power.ts'
import { servicePort } from '../src/contract/service.ts'
import { defaultConfigFile } from '../src/main/config.ts'
import { defaultOf } from '../src/main/config-cli.ts'
import { settings } from '../src/main/config-schema.ts'
import { addServices } from '../src/main/services.ts'
import { exampleList, setupReference, templateReference } from './setup-reference.ts'
import { statesPage } from './states-reference.ts'

const docs = join(import.meta.dirname, '..', 'docs')
const generated = '<!-- Written by tools/generate-docs.ts (make docs): edit the source, not this page. -->'

/** The parts of a JSON schema that the contract uses. */
type Schema = TSchema & {
  readonly type?: string
  readonly enum?: readonly string[]
  readonly items?: Schema
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly description?: string
  readonly title?: string
}

function typeOf(schema: Schema): string {
  if (schema.enum) return schema.enum.length > 10 ? 'word' : schema.enum.map((word) => `\`${word}\``).join(' \\| ')
  if (schema.type === 'array') return `list of ${schema.items ? typeOf(schema.items) : 'anything'}`
  if (schema.type === 'object') return schema.title ?? 'object'
  return schema.type ?? 'anything'
}

function fields(schema: Schema, depth = 0): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const optional = schema.required?.includes(name) ? '' : ', optional'
    const about = field.description ? `: ${field.description}` : ''
    const inner = field.type === 'array' ? field.items : field
    const line = `${'  '.repeat(depth)}- \`${name}\` ${typeOf(field)}${optional}${about}`
    return [line, ...(inner?.properties && depth < 2 ? fields(inner, depth + 1) : [])]
  })
}

function portPage(port: Port): string[] {
  const lines = [
    `## ${port.summary}`,
    '',
    `SOAP 1.1 and 1.2: \`POST /${port.name}\`, described by \`GET /${port.name}?wsdl\` (namespace \`${port.namespace}\`).`,
    `REST: below \`/${port.name}/v1\`, described by \`GET /${port.name}/openapi.json\`.`,
  ]
  for (const [name, operation] of Object.entries(port.operations)) {
    const { method, path } = operation.rest
    lines.push(
      '',
      `### ${name}`,
      '',
      `${operation.summary}.`,
      '',
      `\`${method} /${port.name}/v1${path}\` · access: ${operation.access}${operation.once ? ' · takes an idempotency key' : ''}`,
    )
    const failures = operation.failures.filter((code) => !commonFailures.includes(code))
    if (failures.length > 0) lines.push('', `Failures: ${failures.map((code) => `\`${code}\``).join(', ')}`)
    lines.push('', 'Input', '', ...none(fields(operation.input)), '', 'Output', '', ...none(fields(operation.output)))
  }
  return [...lines, '']
}

function none(lines: readonly string[]): readonly string[] {
  return lines.length > 0 ? lines : ['- nothing']
}

function apiPage(): string {
  const common = commonFailures.map((code) => `\`${code}\``).join(', ')
  return [
    generated,
    '# The API',
    '',
    'Every operation is one entry of `src/contract/`; SOAP, REST, the typed client and this page are derived from it.',
    `Any call may end in ${common}; [failures.md](failures.md) says what each code means.`,
    '',
    ...[controlPort, powerPort, servicePort].flatMap((port) => portPage(port)),
  ].join('\n')
}

function failuresPage(): string {
  return [
    generated,
    '# Failures',
    '',
    'One table gives each code its HTTP status, SOAP fault, exit code of the CLI, whether asking again can help, and what',
    'the operator does (`src/contract/failures.ts`).',
    '',
    '| code | HTTP | SOAP fault | exit | again? | what to do |',
    '|---|---|---|---|---|---|',
    ...Object.entries(failureMeanings).map(
      ([code, { status, fault, exit, retry, remedy }]) =>
        `| \`${code}\` | ${status} | ${fault} | ${exit} | ${retry ? 'yes' : 'no'} | ${remedy} |`,
    ),
    '',
  ].join('\n')
}

function cliPage(): string {
  const program = buildProgram('', addServices)
  const help = (command: Command): string[] => {
    command.configureHelp({ helpWidth: 110 })
    const name = commandName(command)
    const own = command.commands.length === 0 || command === program
    return [
      ...(own ? [`## ${name}`, '', '```text', command.helpInformation().trimEnd(), '```', ''] : []),
      ...command
        .createHelp()
        .visibleCommands(command)
        .filter((one) => one.name() !== 'help')
        .flatMap(help),
    ]
  }
  return [generated, '# The command line', '', ...help(program)].join('\n')
}

function commandName(command: Command): string {
  return command.parent ? `${commandName(command.parent)} ${command.name()}` : command.name()
}

function configPage(): string {
  return [
    generated,
    '# The configuration',
    '',
    `Settings stand in a YAML file (\`${defaultConfigFile}\`, or the one that \`--config\` or \`HADES_CONFIG\` names), in the environment, or`,
    'are flags of `hades up`. Flags go before the environment, the environment before the file, the file before the defaults. What is not',
    'known is an error, with file, line and what was probably meant. Relative paths in the file are meant from its folder.',
    '',
    'Sizes are written `500GB` or `20GiB`, rates `100M` or `50MB/s`, times `90s`, `30min`, `12h`, `30d`. Secrets never stand in it: a setting',
    'that ends in `File` names a file that holds one, and that none but its owner may read (mode 0600, or 0640 with the group of the service).',
    '',
    '    hades config check     # everything that is wrong, with its place',
    '    hades config show      # what counts, and where each value comes from',
    '    hades config example   # a file with every setting',
    '',
    '| setting | environment | flag | default | |',
    '|---|---|---|---|---|',
    ...settings.map((setting) => {
      const { key, env, flag, schema } = setting
      const words = schema.enum ? ` (${schema.enum.map((word) => `\`${word}\``).join(', ')})` : ''
      return `| \`${key}\` | \`${env}\` | \`--${flag}\` | ${defaultOf(setting) ?? '-'} | ${schema.description}${words} |`
    }),
    '',
  ].join('\n')
}

const behindThis =
  '<!-- What follows is written by tools/generate-docs.ts (make docs): edit src/model/setup-schema.ts. -->'

/** What people have written of setups, and behind it what follows from the schema. */
function setupPage(): string {
  const [written = ''] = readFileSync(join(docs, 'setup.md'), 'utf8').split(behindThis)
  return [
    `${written.trimEnd()}\n`,
    behindThis,
    '## The words of templates',
    '',
    ...templateReference(),
    '',
    '## Examples',
    '',
    ...exampleList(join(docs, '..', 'examples')),
    '',
    '## Every element and attribute',
    '',
    'As the schema says it, which `hades setup schema` prints. `place` stands for whatever can hold something: a disk, a partition,',
    'an array, a volume.',
    '',
    ...setupReference(),
  ].join('\n')
}

/** The pages by file name. */
export function pages(): Readonly<Record<string, string>> {
  return {
    'api.md': apiPage(),
    'failures.md': failuresPage(),
    'cli.md': cliPage(),
    'config.md': configPage(),
    'setup.md': setupPage(),
    'states.md': [generated, ...statesPage()].join('\n'),
  }
}

/** Names of the pages in docs/ that are not what they would be if written now. */
export async function stalePages(): Promise<string[]> {
  const stale: string[] = []
  for (const [name, text] of Object.entries(pages())) {
    const have = await readFile(join(docs, name), 'utf8').catch(() => '')
    if (have !== text) stale.push(name)
  }
  return stale
}

if (import.meta.main) {
  for (const [name, text] of Object.entries(pages())) await writeFile(join(docs, name), text)
}
