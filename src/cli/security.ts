// `hades audit`, `hades ca` and `hades keys`: what was changed, how the service is known, and what seals its secrets.
import type { Command } from 'commander'
import type { SealingKeyView } from '../contract/user-types.ts'
import { until } from '../lib/until.ts'
import { moment } from './output.ts'
import { type OpenSession, tableOr } from './session.ts'

type AuditOptions = {
  readonly user?: string
  readonly operation?: string
  readonly before?: number
  readonly limit?: number
}

export function addAuditCommand(program: Command, open: OpenSession): void {
  program
    .command('audit')
    .description('who changed what, the newest last')
    .option('--user <user>', 'only what this user did')
    .option('--operation <name>', 'only this operation, such as startRollout')
    .option('--before <id>', 'only what is older than this entry', Number)
    .option('--limit <count>', 'no more than so many (100 unless said)', Number)
    .action(async (options: AuditOptions, command: Command) => {
      const { control, show } = open(command)
      show(await control.listAudit(options), ({ entries }) =>
        tableOr(
          'nothing was changed yet',
          ['id', 'when', 'user', 'role', 'by', 'from', 'operation', 'target', 'outcome'],
          entries
            .toReversed()
            .map((one) => [
              one.id,
              moment(one.at),
              one.user,
              one.role,
              one.via,
              one.address,
              one.operation,
              one.target,
              one.outcome,
            ]),
        ),
      )
    })
}

export function addKeyCommands(program: Command, open: OpenSession): void {
  program
    .command('ca')
    .description('the certificate to trust when talking to this service by TLS, and its fingerprint for --fingerprint')
    .action(async (_options, command: Command) => {
      const { control, show } = open(command)
      show(
        await control.getCertificate({}),
        ({ certificate: { pem, fingerprint, isOwnAuthority, names, expiresAt } }) =>
          [
            pem.trimEnd(),
            `fingerprint  ${fingerprint}`,
            `authority    ${isOwnAuthority ? "this service's own" : 'none: a certificate was given'}`,
            `names        ${names.join(', ')}`,
            `renewed      before ${moment(expiresAt)}`,
          ].join('\n'),
      )
    })
  const keys = program.command('keys').description('the keys that seal secrets in the database')
  keys
    .command('list')
    .description('the keys, and what each still seals')
    .action(async (_options, command: Command) => {
      const { control, show } = open(command)
      show(await control.listKeys({}), (result) => keyTable(result.keys))
    })
  keys
    .command('rotate')
    .description('makes a new key and seals every secret anew; waits until the old one is needed by nothing')
    .option('--no-wait', 'returns when every secret is sealed anew; agents under way may still need the old key')
    .action(async (options: { wait: boolean }, command: Command) => {
      const { control, show } = open(command)
      let result = await control.rotateKeys({})
      if (options.wait && result.keys.length > 1) {
        const isDone = async () => {
          result = await control.listKeys({})
          return result.keys.length === 1
        }
        await until('the agents under way, which need the old key', isDone, { timeoutMs: 24 * 3600_000, everyMs: 5000 })
      }
      show(result, ({ keys }) => keyTable(keys))
    })
}

function keyTable(keys: readonly SealingKeyView[]): string {
  return tableOr(
    'no keys',
    ['key', 'state', 'secrets', 'deployments'],
    keys.map((key) => [key.id, key.isCurrent ? 'current' : 'being replaced', key.sealed, key.deployments]),
  )
}
