// `hades webhook`: where events are sent, and what could not be delivered.
import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { allPages } from '../client/pages.ts'
import { Failure } from '../model/failure.ts'
import { moment } from './output.ts'
import { type OpenSession, tableOr } from './session.ts'

type PutOptions = {
  readonly url: string
  readonly secretFile?: string
  readonly nodeset?: string
  readonly kind?: string[]
  readonly disabled?: true
}

export function addWebhookCommands(program: Command, open: OpenSession): void {
  const webhook = program.command('webhook').description('webhooks: where events are sent, signed, as they happen')
  webhook
    .command('put <name>')
    .description('sets where events are sent from now on')
    .requiredOption('--url <url>', 'http or https, without a password')
    .option('--secret-file <file>', 'what signs the deliveries, 16 characters or more; - is standard input')
    .option('--nodeset <nodeset>', 'only events of these machines')
    .option('--kind <kind...>', 'only events of these kinds, such as completed or dhcp.*')
    .option('--disabled', 'keep its place and send nothing')
    .action(async (name: string, options: PutOptions, command: Command) => {
      const { control, show } = open(command)
      const { url, secretFile, nodeset, kind, disabled } = options
      const result = await control.putWebhook({
        name,
        url,
        ...(secretFile === undefined ? {} : { secret: readSecret(secretFile) }),
        ...(nodeset === undefined ? {} : { nodeset }),
        ...(kind === undefined ? {} : { kinds: kind }),
        ...(disabled ? { enabled: false } : {}),
      })
      show(result, () => `webhook ${name} was put`)
    })
  webhook
    .command('list')
    .description('webhooks, and how far each is behind')
    .action(async (_options, command: Command) => {
      const { control, show } = open(command)
      show(await allPages(control.listWebhooks, 'webhooks', {}), ({ webhooks }) =>
        tableOr(
          'no webhooks yet: put one with `hades webhook put`',
          ['webhook', 'url', 'sends', 'behind', 'dead', 'failures', 'said'],
          webhooks.map((one) => [
            one.name,
            one.url,
            one.enabled ? one.kinds.join(' ') || 'everything' : 'nothing',
            one.behind,
            one.dead,
            one.failures,
            one.said,
          ]),
        ),
      )
    })
  webhook
    .command('remove <name>')
    .description('forgets a webhook and its dead deliveries')
    .action(async (name: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.removeWebhook({ name }), () => `webhook ${name} was removed`)
    })
  addDeadCommands(webhook, open)
}

function addDeadCommands(webhook: Command, open: OpenSession): void {
  webhook
    .command('dead [name]')
    .description('events that a webhook was not told of in time')
    .action(async (name: string | undefined, _options, command: Command) => {
      const { control, show } = open(command)
      const input = name === undefined ? {} : { webhook: name }
      show(await allPages(control.listDeadDeliveries, 'deliveries', input), ({ deliveries }) =>
        tableOr(
          'nothing is dead',
          ['delivery', 'webhook', 'event', 'happened', 'kind', 'died', 'said'],
          deliveries.map(({ id, webhook: of, event, diedAt, said }) => [
            id,
            of,
            event.id,
            moment(event.at),
            event.kind,
            moment(diedAt),
            said,
          ]),
        ),
      )
    })
  webhook
    .command('retry <delivery>')
    .description('delivers a dead delivery now, once')
    .action(async (delivery: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.retryDelivery({ delivery: Number(delivery) }), () => `delivery ${delivery} was taken`)
    })
}

function readSecret(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8').replace(/\r?\n$/, '')
  } catch (cause) {
    throw new Failure('bad-input', `the file ${file} cannot be read`, { cause, at: '--secret-file' })
  }
}
