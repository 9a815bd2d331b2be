// The commands that start services. What a command does not need is not loaded.
import { join } from 'node:path'
import { type Command, Option } from 'commander'
import { execa } from 'execa'
import { bytes, rate } from '../cli/options.ts'
import type { GlobalOptions } from '../cli/session.ts'
import { addDatabaseCommands } from './database-commands.ts'
import { addDatabaseOptions } from './database-option.ts'

const root = join(import.meta.dirname, '..', '..')

const number = (text: string): number => Number(text)

/** An option whose default lies beside the program, wherever that is installed. */
function folder(flags: string, description: string, within: string): Option {
  return new Option(flags, description).default(join(root, within), `${within} of the program`)
}

/** Adds `up` and the like to the program. */
export function addServices(program: Command): void {
  const up = program
    .command('up')
    .description('starts all services in this process; makes its data folder at first start')
    .option('--address <ip>', "this machine's address on the machines' network; without it no machine is served")
    .option('--http-port <port>', 'boot files, images and the Service Port', number, 7780)
    .option('--tftp-port <port>', 'TFTP', number, 69)
    .addOption(new Option('--dhcp <mode>', 'DHCP server').choices(['full', 'off']).default('full'))
    .option('--router <ip>', 'the default route that DHCP gives')
    .option('--origin-rate <rate>', 'bytes a second of images that leave here, at most, such as 100M', rate)
    .option('--seeder-port <port>', 'the BitTorrent peer that has every image, for stock clients', number, 6881)
    .option('--open-swarm', 'anyone who has the torrent of an image may join its swarm, not only hosts that fetch it')
    .option('--control-host <ip>', 'where the Control Port listens', '127.0.0.1')
    .option('--control-port <port>', 'and on which port', number, 7700)
    .option('--local-webhooks', 'let webhooks be on this machine itself, by loopback and link-local addresses')
    .option('--confirm-above <count>', 'rollouts of more hosts than this must be confirmed', number, 20)
    .option('--tls', 'HTTPS there, which is so in any case unless it is 127.0.0.1')
    .option('--tls-cert <file>', "a certificate (PEM, with its chain) in place of one of the service's own authority")
    .option('--tls-key <file>', 'its private key (PEM)')
    .option('--tls-name <name...>', "more names and addresses for the service's own certificate")
    .option('--library-quota <size>', 'what all images together may have, such as 500GB; no bound without', bytes)
    .option(
      '--service-tls-port <port>',
      'agents reach the Service Port there, by TLS, and know it by its fingerprint',
      number,
    )
    .option('--public-url <url>', 'where browsers reach the Control Port, if not at its address')
    .option('--oidc-issuer <url>', 'browsers may log in at this OpenID provider too')
    .option('--oidc-client <id>', 'what this service is called there')
    .option('--oidc-secret-file <file>', 'file with the secret of that')
    .option('--oidc-claim <name>', 'the claim with the groups of a user', 'groups')
    .option('--oidc-role <role=group...>', 'what a group may do here, such as admin=hades-admins')
    .addOption(folder('--loaders <folder>', 'the boot loaders', join('build', 'loaders')))
    .addOption(folder('--scout <folder>', 'the scout', join('build', 'scout', 'current')))
    .option('--scout-key <file>', 'a line of authorized_keys: lets its owner into the scout by SSH, port 2222')
    .addOption(
      new Option('--log-level <level>', 'what is logged').choices(['debug', 'info', 'warn', 'error']).default('info'),
    )
    .action(async (_options, command: Command) => {
      const { runHadesd } = await import('./hadesd.ts')
      await runHadesd(command.optsWithGlobals<GlobalOptions & Parameters<typeof runHadesd>[0]>())
    })
  addDatabaseOptions(up)
  addDatabaseCommands(program)
  program
    .command('lab')
    .description('virtual machines with firmware, disks and controllers in a network of their own')
    .helpOption(false)
    .allowUnknownOption()
    .argument('[args...]')
    .action(async (args: string[]) => {
      // A program of its own: its machines and its user are on this computer, whatever service is talked to.
      const lab = await execa(process.execPath, [join(root, 'lab', 'lab.ts'), ...args], {
        stdio: 'inherit',
        reject: false,
      })
      process.exitCode = lab.exitCode ?? 1
    })
}
