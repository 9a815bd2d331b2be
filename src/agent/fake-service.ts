// A service for the agent's tests: the handlers of the Service Port for one deployment, which write down every call and
// do by turns what a test tells them.
import type { Caller, Handlers, Input, Output } from '../contract/operation.ts'
import type { serviceOperations } from '../contract/service.ts'
import type { Instructions } from '../contract/work-types.ts'
import { Failure } from '../model/failure.ts'

type Operations = typeof serviceOperations
export type Call = {
  [Name in keyof Operations]: { readonly name: Name; readonly input: Input<Operations[Name]> }
}[keyof Operations]

type Answer = Output<Operations['reportProgress']>

export class FakeService {
  readonly bootToken = 'boot-token-0123456789'
  readonly sessionKey = 'session-key-0123456789'
  readonly calls: Call[] = []
  instructions: Instructions
  /** What comes before a call is answered: throw to fail it, give an answer to replace the usual `continue`. */
  before: (call: Call) => Promise<Answer | undefined> | Answer | undefined = () => undefined

  constructor(work: NonNullable<Instructions['work']>) {
    this.instructions = { action: 'deploy', reportEveryMs: 100, work }
  }

  /** The calls of one operation. */
  of<Name extends keyof Operations>(name: Name): Input<Operations[Name]>[] {
    return this.calls.filter((call) => call.name === name).map((call) => call.input as Input<Operations[Name]>)
  }

  handlers(): Handlers<Operations> {
    const told = async (call: Call, caller: Caller): Promise<Answer> => {
      this.calls.push(call)
      const isFirst = call.name === 'registerHost' || call.name === 'reportDiscovered'
      const wanted = isFirst ? this.bootToken : this.sessionKey
      if (caller.kind !== 'bearer' || caller.token !== wanted) throw new Failure('token-refused', 'it is not the token')
      return (await this.before(call)) ?? { action: 'continue' }
    }
    return {
      registerHost: async (input, caller) => {
        await told({ name: 'registerHost', input }, caller)
        return { deployment: 7, sessionKey: this.sessionKey, instructions: this.instructions }
      },
      reportDiscovered: async (input, caller) => {
        await told({ name: 'reportDiscovered', input }, caller)
        return {}
      },
      getInstructions: async (input, caller) => {
        await told({ name: 'getInstructions', input }, caller)
        return { instructions: this.instructions }
      },
      reportProgress: (input, caller) => told({ name: 'reportProgress', input }, caller),
      reportEvent: (input, caller) => told({ name: 'reportEvent', input }, caller),
      reportFailure: async (input, caller) => {
        await told({ name: 'reportFailure', input }, caller)
        return {}
      },
      completeDeployment: (input, caller) => told({ name: 'completeDeployment', input }, caller),
      completeErase: (input, caller) => told({ name: 'completeErase', input }, caller),
      beginCapture: async (input, caller) => {
        await told({ name: 'beginCapture', input }, caller)
        return { nextFrame: 0, chain: '0'.repeat(64) }
      },
      completeCapture: async (input, caller) => {
        await told({ name: 'completeCapture', input }, caller)
        return { state: 'published' }
      },
    }
  }
}
