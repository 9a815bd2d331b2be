// `hades completion`: what a shell offers for the word under the cursor. Commands, options and closed sets of words are the program's own;
// names of hosts, images and so on are asked of the service, which has a second: who waits at a prompt is told nothing rather than
// made to wait, and never told why. The shell hands over the words on standard input, where none is taken for an option of ours.
import { readFileSync } from 'node:fs'
import { type Argument, type Command, Option } from 'commander'
import { allPages } from '../client/pages.ts'
import { controlPort } from '../contract/control.ts'
import { powerPort } from '../contract/power.ts'
import { Failure } from '../model/failure.ts'
import { completionScripts, filesAnswer, type Shell, shells } from './completion-scripts.ts'
import type { OpenSession, Session } from './session.ts'

const askMsMax = 1000
/** More than a shell can show; a name begun further finds the others. */
const rowsMax = 20_000
/** Longer than any line that is typed. */
const inputBytesMax = 64 * 1024

type Candidate = { readonly word: string; readonly about?: string }

export function addCompletionCommands(program: Command, open: OpenSession): void {
  program
    .command('completion')
    .argument('<shell>', `one of ${shells.join(', ')}`, oneShell)
    .description(
      'prints what makes a shell complete commands, options, and names of hosts, images, setups and rollouts',
    )
    .addHelpText(
      'after',
      '\nbash: source <(hades completion bash)\nzsh:  source <(hades completion zsh)\nfish: hades completion fish | source',
    )
    .action((shell: Shell) => {
      process.stdout.write(completionScripts[shell])
    })
  program
    .command('complete', { hidden: true })
    .description('answers a shell: reads the words of a line, one a line, the last to be completed')
    .action(async (_options, command: Command) => {
      const words = readFileSync(0).subarray(0, inputBytesMax).toString().replace(/\n$/, '').split('\n')
      const found = await complete(program, words, () => open(command))
      const lines =
        found === 'files' ? [filesAnswer] : found.map(({ word, about }) => (about ? `${word}\t${about}` : word))
      process.stdout.write(lines.map((line) => `${line}\n`).join(''))
    })
}

function oneShell(text: string): Shell {
  const shell = shells.find((one) => one === text)
  if (shell === undefined) throw new Failure('bad-input', `${text} is none of ${shells.join(', ')}`, { at: 'shell' })
  return shell
}

/** What may stand in place of the last word; `files` when the shell knows better. The program's own options are taken from the words. */
export async function complete(
  program: Command,
  words: readonly string[],
  open: () => Session,
): Promise<Candidate[] | 'files'> {
  const place = placeOf(program, words)
  const { command, asked, lead, begun } = place
  const beginning = ({ word }: Candidate) => word.startsWith(begun)
  const placed = (found: readonly Candidate[]) =>
    found.filter(beginning).map(({ word, ...rest }) => ({ word: lead + word, ...rest }))
  if (asked === undefined && begun.startsWith('-')) return placed(optionsOf(program, command))
  const inner = place.positionals === 0 && !(asked instanceof Option) ? subcommands(command) : []
  if (asked === undefined || inner.length > 0) return placed(inner)
  const closed = asked.argChoices ?? []
  if (closed.length > 0) return placed(closed.map((word) => ({ word })))
  if (filesWords.has(wordOf(asked))) return 'files'
  return await named(place, asked, open).then(placed)
}

type Place = {
  readonly command: Command
  /** How many words of the command stand before the last one. */
  readonly positionals: number
  /** What the last word is the value of; nothing when it is an option or too many. */
  readonly asked: Option | Argument | undefined
  /** What of the last word stays as it is, and what is to be gone on with. */
  readonly lead: string
  readonly begun: string
}

/** Goes along the words as the program would. What it does not know is passed over: it can be half written. */
function placeOf(program: Command, words: readonly string[]): Place {
  let command = program
  let positionals = 0
  let pending: Option | undefined
  let isPlain = false
  for (const word of words.slice(0, -1)) {
    const [, name = word, value] = /^(--[^=]+)=(.*)$/s.exec(word) ?? []
    const option = isPlain ? undefined : optionOf(program, command, name)
    const inner = positionals === 0 ? innerOf(command, word) : undefined
    if (pending) {
      note(program, pending, word)
      pending = undefined
    } else if (word === '--') isPlain = true
    else if (option && value !== undefined) note(program, option, value)
    else if (option?.required) pending = option
    else if (!isPlain && word.startsWith('-')) continue
    else if (inner) command = inner
    else positionals++
  }
  const last = words.at(-1) ?? ''
  const [, name = '', value] = /^(--[^=]+)=(.*)$/s.exec(last) ?? []
  const assigned = isPlain || pending ? undefined : optionOf(program, command, name)
  if (assigned && value !== undefined) {
    return { command, positionals, asked: assigned, ...partsOf(assigned, value, `${name}=`) }
  }
  if (pending === undefined && !isPlain && last.startsWith('-')) {
    return { command, positionals, asked: undefined, lead: '', begun: last }
  }
  const takes = command.registeredArguments
  const asked = pending ?? takes[positionals] ?? (takes.at(-1)?.variadic ? takes.at(-1) : undefined)
  return { command, positionals, asked, ...partsOf(asked, last, '') }
}

/** Of a nodeset, the name after the last comma is gone on with; inside brackets no name begins. */
function partsOf(asked: Option | Argument | undefined, text: string, lead: string): Pick<Place, 'lead' | 'begun'> {
  const isInBrackets = text.lastIndexOf('[') > text.lastIndexOf(']')
  if (asked === undefined || wordOf(asked) !== 'nodeset' || isInBrackets) return { lead, begun: text }
  const [, before = '', begun = ''] = /^((?:.*,)?!?)(.*)$/s.exec(text) ?? []
  return { lead: lead + before, begun }
}

/** The global options say which service is asked. */
function note(program: Command, option: Option, value: string): void {
  if (program.options.includes(option)) program.setOptionValueWithSource(option.attributeName(), value, 'cli')
}

function optionOf(program: Command, command: Command, name: string): Option | undefined {
  return [...command.options, ...program.options].find((option) => option.long === name || option.short === name)
}

function innerOf(command: Command, word: string): Command | undefined {
  return command.commands.find((one) => one.name() === word || one.aliases().includes(word))
}

function subcommands(command: Command): Candidate[] {
  const help = command.createHelp()
  if (command.commands.length === 0) return []
  return help.visibleCommands(command).map((one) => ({ word: one.name(), about: one.description() }))
}

function optionsOf(program: Command, command: Command): Candidate[] {
  const help = command.createHelp()
  const options = new Set([...help.visibleOptions(command), ...help.visibleOptions(program)])
  return [...options].flatMap(({ long, description }) => (long ? [{ word: long, about: description }] : []))
}

/** What a value is called in the help: `setup` of `--with-setup <setup>`, `name` of `<name>`. */
function wordOf(asked: Option | Argument): string {
  return asked instanceof Option ? (/[<[](.+)[>\]]/.exec(asked.flags)?.[1] ?? '') : asked.name()
}

const filesWords: ReadonlySet<string> = new Set(['file', 'folder', 'path'])

type Ask = (control: Session['control'], signal: AbortSignal) => Promise<(string | number)[]>

/** The names of each noun, as the commands write them. */
const names: Readonly<Record<string, Ask>> = {
  host: async ({ listHosts }, signal) =>
    (await allPages(listHosts, 'hosts', {}, { signal, rowsMax })).hosts.map(({ name }) => name),
  image: async ({ listImages }, signal) =>
    (await allPages(listImages, 'images', {}, { signal, rowsMax })).images.map(({ reference }) => reference),
  setup: async ({ listSetups }, signal) =>
    (await allPages(listSetups, 'setups', {}, { signal, rowsMax })).setups.map(({ name }) => name),
  script: async ({ listScripts }, signal) =>
    (await allPages(listScripts, 'scripts', {}, { signal, rowsMax })).scripts.map(({ name }) => name),
  site: async ({ listSites }, signal) =>
    (await allPages(listSites, 'sites', {}, { signal, rowsMax })).sites.map(({ name }) => name),
  profile: async ({ listProfiles }, signal) =>
    (await allPages(listProfiles, 'profiles', {}, { signal, rowsMax })).profiles.map(({ name }) => name),
  user: async ({ listUsers }, signal) =>
    (await allPages(listUsers, 'users', {}, { signal, rowsMax })).users.map(({ name }) => name),
  webhook: async ({ listWebhooks }, signal) =>
    (await allPages(listWebhooks, 'webhooks', {}, { signal, rowsMax })).webhooks.map(({ name }) => name),
  // The newest, which are those that are asked for.
  rollout: async ({ listRollouts }, signal) =>
    (await listRollouts({ limit: 100 }, { signal })).rollouts.map(({ id }) => id),
}

/** Nothing to offer for the name of what a command makes. */
const makers: ReadonlySet<string> = new Set(['add', 'create'])

/** The noun that a value is a name of: its own word, or that of the option or the group of commands it belongs to. */
function nounOf({ command }: Place, asked: Option | Argument): string | undefined {
  const word = wordOf(asked)
  if (word === 'nodeset') return 'host'
  if (Object.hasOwn(names, word)) return word
  if (!/^name(:version|\[:version\])?$/.test(word)) return undefined
  const noun = asked instanceof Option ? asked.attributeName() : command.parent?.name()
  return noun !== undefined && Object.hasOwn(names, noun) && !makers.has(command.name()) ? noun : undefined
}

/** A name with anything else would be more than a word to a shell. */
const safeWord = /^[A-Za-z0-9._:@+-]+$/

async function named(place: Place, asked: Option | Argument, open: () => Session): Promise<Candidate[]> {
  if (wordOf(asked) === 'operation') return operations()
  const noun = nounOf(place, asked)
  if (noun === undefined) return []
  try {
    const found = (await names[noun]?.(open().control, AbortSignal.timeout(askMsMax))) ?? []
    const words = new Set(found.map(String).filter((word) => safeWord.test(word)))
    return [...words].map((word) => ({ word }))
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    return []
  }
}

function operations(): Candidate[] {
  return [controlPort, powerPort].flatMap((port) =>
    Object.entries(port.operations).map(([name, { summary }]) => ({ word: `${port.name}.${name}`, about: summary })),
  )
}
