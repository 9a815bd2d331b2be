// What is done again and again beside the deployments: a rotation of keys goes on, tokens that have ended are forgotten, and the
// service's certificate is renewed before it ends.
import { forgetExpired } from '../db/tokens.ts'
import { continueRotation } from '../operations/keys.ts'
import type { World } from '../operations/world.ts'

const everyMs = 10_000
/** Of the rounds, each this many-th also forgets and renews: once an hour. */
const hourly = 360

/** Runs until closed; what fails is told to the log and tried again in the next round. */
export function startUpkeep(world: World, renew: () => Promise<void>): { close(): Promise<void> } {
  const { log } = world
  let round = 0
  let under: Promise<void> = Promise.resolve()
  const steps = async (): Promise<void> => {
    await continueRotation(world).catch((error: unknown) =>
      log.error({ err: error }, 'the rotation of keys was held up'),
    )
    round += 1
    if (round % hourly !== 1) return
    await forgetExpired(world.db, world.now()).catch((error: unknown) =>
      log.error({ err: error }, 'tokens that have ended were not forgotten'),
    )
    await renew().catch((error: unknown) => log.error({ err: error }, 'the certificate was not renewed'))
  }
  // One round at a time: the next begins when the timer finds none.
  let isRunning = false
  const run = (): void => {
    if (isRunning) return
    isRunning = true
    under = steps().finally(() => {
      isRunning = false
    })
  }
  run()
  const timer = setInterval(run, everyMs)
  return {
    close: async () => {
      clearInterval(timer)
      await under
    },
  }
}
