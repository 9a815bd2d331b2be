// The command line: an ordinary client of the ports. Here are the global options, and how a failure becomes words and an
// exit code; the commands themselves are in one file a noun.
import { Command, CommanderError, Option } from 'commander'
import { failureMeanings } from '../contract/failures.ts'
import { causeChain, Failure } from '../model/failure.ts'
import { addBootCommands } from './boot.ts'
import { addCallCommand } from './call.ts'
import { addCaptureCommands } from './captures.ts'
import { addCompletionCommands } from './completion.ts'
import { addDeployCommands } from './deploy.ts'
import { addDiscoveryCommands } from './discovery.ts'
import { addEraseCommand } from './erase.ts'
import { addEventCommands } from './events.ts'
import { addExplainCommand } from './explain.ts'
import { addHostCommands } from './hosts.ts'
import { addImageCommands } from './images.ts'
import { addLoginCommands } from './logins.ts'
import { plain } from './output.ts'
import { addPowerCommands } from './power.ts'
import { addPreflightCommand } from './preflight.ts'
import { addProfileCommands } from './profiles.ts'
import { addProofCommand } from './proof.ts'
import { addRolloutCommands } from './rollouts.ts'
import { addScriptCommands } from './scripts.ts'
import { addAuditCommand, addKeyCommands } from './security.ts'
import { defaultDataFolder, type GlobalOptions, type OpenSession, openSession } from './session.ts'
import { addSetupCommands } from './setups.ts'
import { addSiteCommands } from './sites.ts'
import { addStatusCommand } from './status.ts'
import { addSwarmCommand } from './swarm.ts'
import { addTokenCommands, addUserCommands } from './users.ts'
import { addWebhookCommands } from './webhooks.ts'

/**
 * The program with all client commands; `addServices` adds those that start services. Its action handlers throw
 * Failures, which `run` turns into words and an exit code.
 */
export function buildProgram(version: string, addServices: (program: Command) => void): Command {
  const program = new Command('hades')
    .description('HaDeS deploys operating system images to machines, from one to ten thousand, unattended.')
    .version(version)
    .addOption(
      new Option('-o, --output <format>', 'how results are written').choices(['table', 'json']).default('table'),
    )
    .addOption(
      new Option('--data <folder>', 'data folder of the service on this machine')
        .default(defaultDataFolder)
        .env('HADES_DATA'),
    )
    .addOption(new Option('--server <url>', 'Control Port of a service elsewhere').env('HADES_SERVER'))
    .option(
      '--idempotency-key <key>',
      'of a command that starts or adds something: given again with the same key, it does nothing more and answers the same',
    )
    .addOption(new Option('--token-file <file>', 'file with a token, for --server').env('HADES_TOKEN_FILE'))
    .addOption(new Option('--ca <file>', 'certificate (PEM) that the service is known by').env('HADES_CA'))
    .addOption(
      new Option(
        '--fingerprint <sha256>',
        "of the service's certificate or authority: the one that `hades ca` prints",
      ).env('HADES_FINGERPRINT'),
    )
    .showHelpAfterError('(add --help for what there is)')
    .showSuggestionAfterError()
    .exitOverride()
  addServices(program)
  const open: OpenSession = (command) =>
    openSession(command.optsWithGlobals<GlobalOptions>(), program.getOptionValueSource('data') !== 'default')
  addStatusCommand(program, open)
  addHostCommands(program, open)
  addDiscoveryCommands(program, open)
  addSiteCommands(program, open)
  addImageCommands(program, open)
  addSetupCommands(program, open)
  addScriptCommands(program, open)
  addBootCommands(program, open)
  addProfileCommands(program, open)
  addPowerCommands(program, open)
  addDeployCommands(program, open)
  addRolloutCommands(program, open)
  addCaptureCommands(program, open)
  addEraseCommand(program, open)
  addSwarmCommand(program, open)
  addExplainCommand(program, open)
  addPreflightCommand(program, open)
  addProofCommand(program, open)
  addEventCommands(program, open)
  addWebhookCommands(program, open)
  addLoginCommands(program, open)
  addUserCommands(program, open)
  addTokenCommands(program, open)
  addAuditCommand(program, open)
  addKeyCommands(program, open)
  addCallCommand(program, open)
  addCompletionCommands(program, open)
  return program
}

/** Runs the program on the arguments (without node and script) and returns the exit code. */
export async function run(program: Command, args: readonly string[]): Promise<number> {
  try {
    await program.parseAsync(args, { from: 'user' })
    // A command that ends unwell without a failure, such as a rollout in which one host failed, has set this.
    return Number(process.exitCode ?? 0)
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : failureMeanings['bad-input'].exit
    if (!(error instanceof Failure)) throw error
    for (const line of failureLines(error)) process.stderr.write(`${line}\n`)
    return failureMeanings[error.code].exit
  }
}

/** A failure as people read it: what, why, where, what to do. */
export function failureLines(failure: Pick<Failure, 'code' | 'at' | 'message' | 'cause'>): string[] {
  const [first = '', ...causes] = failure instanceof Error ? causeChain(failure) : [failure.message]
  return [
    `hades: ${plain(first)}${failure.at === undefined ? '' : ` (${plain(failure.at)})`}`,
    ...causes.map((cause) => `  because: ${plain(cause)}`),
    `  ${failureMeanings[failure.code].remedy} [${failure.code}]`,
  ]
}
