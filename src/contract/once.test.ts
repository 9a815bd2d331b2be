// Which operations take an idempotency key: whatever starts, adds or switches something; for the others this table says why not.
import { expect, test } from 'vitest'
import { controlPort } from './control.ts'
import type { Operation } from './operation.ts'
import { powerPort } from './power.ts'

/** What is sent by POST and takes no key. */
const without: Readonly<Record<string, string>> = {
  ignoreDiscovered: 'sets a state: twice is once',
  pauseRollout: 'sets a state: twice is once',
  resumeRollout: 'sets a state: twice is once',
  cancelCapture: 'sets a state: twice is once',
  collectImages: 'removes what is there: the second time there is nothing',
  logout: 'ends what the call was made with',
  changePassword: 'takes the old password, which the second time is wrong',
  createToken: 'its answer holds a secret, which must not be kept; a second one of the name is refused',
  login: 'its answer holds a secret, which must not be kept',
  validateSetup: 'changes nothing',
  diffSetups: 'changes nothing',
  planRollout: 'changes nothing',
  explainHost: 'changes nothing',
  runPreflight: 'changes nothing',
  testPower: 'changes nothing',
}

const operations: readonly (readonly [string, Operation])[] = [controlPort, powerPort].flatMap((port) =>
  Object.entries<Operation>(port.operations),
)

test('every operation that is sent by POST takes an idempotency key, or stands in the table with its reason', () => {
  const bare = operations.filter(([, { rest, once }]) => rest.method === 'POST' && once === undefined)
  expect(bare.map(([name]) => name).sort()).toEqual(Object.keys(without).sort())
})

test('what reads, and what sets or removes the thing that its path names, needs none', () => {
  const keyed = operations.filter(([, { once }]) => once !== undefined)
  expect(keyed.map(([, { rest }]) => rest.method)).toEqual(keyed.map(() => 'POST'))
})
