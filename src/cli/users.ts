// `hades user` and `hades token`: who may use the service, and with which words.
import { type Command, Option } from 'commander'
import { allPages } from '../client/pages.ts'
import type { TokenView, UserView } from '../contract/user-types.ts'
import { Failure } from '../model/failure.ts'
import { type Role, roles } from '../model/role.ts'
import { askNewSecret, askSecret } from './ask.ts'
import { moment } from './output.ts'
import { type OpenSession, tableOr } from './session.ts'

const roleOption = (description: string): Option => new Option('--role <role>', description).choices(roles)

type ChangeOptions = {
  readonly role?: Role
  readonly password?: boolean
  readonly disable?: boolean
  readonly enable?: boolean
}

export function addUserCommands(program: Command, open: OpenSession): void {
  const user = program.command('user').description('users: who may log in, and what they may do')
  user
    .command('add <name>')
    .description('makes a user known; asks for its password, or reads a line of standard input')
    .addOption(roleOption('what it may do').default('viewer'))
    .option('--no-password', 'it logs in by OpenID Connect, or has only tokens')
    .action(async (name: string, options: { role: Role; password: boolean }, command: Command) => {
      const { control, show } = open(command)
      const password = options.password ? { password: await askNewSecret('password') } : {}
      show(await control.addUser({ name, role: options.role, ...password }), (result) => sentence(result.user))
    })
  user
    .command('change <name>')
    .description('changes a user; a new password, or being disabled, ends its sessions')
    .addOption(roleOption('what it may do from now on'))
    .option('--password', 'a new password: asks for it, or reads a line of standard input')
    .option('--disable', 'it may do nothing until it is enabled')
    .option('--enable', 'it may log in again')
    .action(async (name: string, options: ChangeOptions, command: Command) => {
      const { control, show } = open(command)
      if (options.disable && options.enable) throw new Failure('bad-input', 'enable it or disable it, not both')
      const result = await control.changeUser({
        name,
        ...(options.role === undefined ? {} : { role: options.role }),
        ...(options.password ? { password: await askNewSecret('new password') } : {}),
        ...(options.disable || options.enable ? { isDisabled: options.disable === true } : {}),
      })
      show(result, ({ user: changed }) => sentence(changed))
    })
  user
    .command('password')
    .description('changes your own password, and ends your other sessions')
    .action(async (_options, command: Command) => {
      const { control, print } = open(command)
      const oldPassword = await askSecret('old password')
      await control.changePassword({ oldPassword, newPassword: await askNewSecret('new password') })
      print('the password was changed')
    })
  user
    .command('remove <name>')
    .description('forgets a user, its tokens and its sessions')
    .action(async (name: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.removeUser({ name }), () => `removed user ${name}`)
    })
  user
    .command('list')
    .description('the users')
    .action(async (_options, command: Command) => {
      const { control, show } = open(command)
      show(await allPages(control.listUsers, 'users', {}), ({ users }) =>
        tableOr(
          'no users yet: add one with `hades user add`',
          ['user', 'role', 'password', 'state', 'last login'],
          users.map((one) => [
            one.name,
            one.role,
            one.hasPassword ? 'yes' : 'no',
            one.isDisabled ? 'disabled' : 'enabled',
            one.lastLoginAt === undefined ? 'never' : moment(one.lastLoginAt),
          ]),
        ),
      )
    })
}

function sentence({ name, role, isDisabled, hasPassword }: UserView): string {
  return `user ${name}: ${role}${isDisabled ? ', disabled' : ''}${hasPassword ? '' : ', without a password'}`
}

type TokenOptions = {
  readonly role?: Role
  readonly owner?: string
  readonly hosts?: string
  readonly site?: string
  readonly days?: number
}

export function addTokenCommands(program: Command, open: OpenSession): void {
  const token = program.command('token').description('tokens: words that programs show in place of a password')
  token
    .command('create <name>')
    .description('makes a token and shows it, this once')
    .addOption(roleOption('what it may do, at most what its owner may; that, unless said'))
    .option('--owner <user>', "somebody else's, for an administrator")
    .option('--hosts <nodeset>', 'it changes nothing of other hosts, and nothing that names none')
    .option('--site <site>', 'it changes nothing of hosts elsewhere')
    .option('--days <days>', 'for how long it is good (90 unless said)', Number)
    .action(async (name: string, { hosts, ...options }: TokenOptions, command: Command) => {
      const { control, show, format, print } = open(command)
      const bound = hosts === undefined ? {} : { nodeset: hosts }
      const result = await control.createToken({ name, ...options, ...bound })
      if (format === 'json') return show(result, () => '')
      process.stderr.write(`token ${result.token.id}, ${result.token.role}, shown only now:\n`)
      print(result.secret)
    })
  token
    .command('list')
    .description("tokens and sessions that are good: your own, and to an administrator everyone's")
    .option('--owner <user>', 'only of this user')
    .action(async (options: { owner?: string }, command: Command) => {
      const { control, show } = open(command)
      show(await allPages(control.listTokens, 'tokens', options), ({ tokens }) =>
        tableOr(
          'no tokens: make one with `hades token create`',
          ['id', 'kind', 'name', 'owner', 'role', 'for', 'expires', 'last used'],
          tokens.map((one) => [
            one.id,
            one.kind,
            one.name,
            one.owner,
            one.role,
            boundOf(one),
            one.expiresAt === undefined ? 'never' : moment(one.expiresAt),
            one.lastUsedAt === undefined ? 'never' : moment(one.lastUsedAt),
          ]),
        ),
      )
    })
  token
    .command('revoke <id>')
    .description('ends a token or a session, at once and everywhere')
    .action(async (id: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.revokeToken({ token: Number(id) }), () => `revoked token ${id}`)
    })
}

function boundOf({ nodeset, site }: TokenView): string {
  return [nodeset, site === undefined ? undefined : `site ${site}`].filter((one) => one !== undefined).join(', ') || '*'
}
