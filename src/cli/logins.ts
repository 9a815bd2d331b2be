// `hades login`, `logout` and `whoami`: being known to a service elsewhere.
import type { Command } from 'commander'
import { createClient } from '../client/client.ts'
import { controlPort } from '../contract/control.ts'
import { Failure } from '../model/failure.ts'
import { askSecret } from './ask.ts'
import { moment } from './output.ts'
import { forgetLogin, savedLogin, saveLogin } from './saved-login.ts'
import { type GlobalOptions, type OpenSession, serverTransport } from './session.ts'

export function addLoginCommands(program: Command, open: OpenSession): void {
  program
    .command('login <user>')
    .description('logs in to the service at --server, and keeps a token for the commands after it, for twelve hours')
    .action(async (name: string, _options, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>()
      const saved = savedLogin()
      const server = options.server ?? saved?.server
      if (server === undefined) {
        throw new Failure('bad-input', 'say where the service is; on its own machine no login is needed', {
          at: '--server',
        })
      }
      // Who has known the service before need not be told again by what.
      const transport = serverTransport(server, saved?.server === server ? { ...saved, ...options } : options)
      const control = createClient(controlPort, transport)
      // Before somebody types a password: is it the service that is meant?
      if (server.startsWith('https:')) await control.getCertificate({})
      const { secret, identity, expiresAt } = await control.login({ name, password: await askSecret('password') })
      saveLogin({ server, token: secret, ...transport.trust })
      open(command).show(identity, () => `${identity.name}, ${identity.role}, at ${server} until ${moment(expiresAt)}`)
    })
  program
    .command('logout')
    .description('ends the login, here and at the service')
    .action(async (_options, command: Command) => {
      const saved = savedLogin()
      if (!saved) throw new Failure('wrong-state', 'nobody is logged in here')
      const options = { ...command.optsWithGlobals<GlobalOptions>(), ...saved }
      try {
        await createClient(controlPort, serverTransport(saved.server, options, saved.token)).logout({})
      } catch (error) {
        // A token that is not good any more has ended already.
        if (!(error instanceof Failure && error.code === 'unauthorized')) throw error
      }
      forgetLogin()
      open(command).print(`logged out of ${saved.server}`)
    })
  program
    .command('whoami')
    .description('who the service takes you for, and why')
    .action(async (_options, command: Command) => {
      const { control, show } = open(command)
      show(await control.whoAmI({}), ({ identity: { name, role, via, address } }) => {
        return `${name}, ${role}, by ${via} from ${address}`
      })
    })
}
