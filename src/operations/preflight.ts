// The preflight: what of the service itself can be looked at here, what main/ looks at on the machines' network, and every
// controller. Each check is bounded; one that could not be made says so.
import { access, constants, statfs } from 'node:fs/promises'
import pLimit from 'p-limit'
import type { controlOperations } from '../contract/control.ts'
import type { Handlers } from '../contract/operation.ts'
import type { powerOperations } from '../contract/power.ts'
import type { PowerOutcome } from '../contract/types.ts'
import { addEvent, newestEventAt } from '../db/events.ts'
import type { Host } from '../db/hosts.ts'
import { causeChain, Failure } from '../model/failure.ts'
import { couldNotLook, type PreflightCheck, worstOf } from '../model/preflight.ts'
import { hostsOf } from './nodeset.ts'
import { powerHandlers } from './power.ts'
import type { World } from './world.ts'

/** Controllers asked at once, and for how long in all: what is not asked by then is said to be so. */
const controllersAtOnce = 16
const controllersMs = 60_000

/** A disk image is some gigabytes; with less than this none can be published. */
const freeBytesMin = 2 ** 30
const freeBytesFew = 20 * 2 ** 30

/** The program was written after this moment, so a clock before it is wrong. */
const clockMin = Date.parse('2026-01-01T00:00:00Z')
const clockSlackMs = 60_000

export function preflightHandlers(world: World): Pick<Handlers<typeof controlOperations>, 'runPreflight'> {
  const power = powerHandlers(world)
  let isRunning = false
  return {
    async runPreflight({ nodeset }, caller) {
      if (isRunning) throw new Failure('wrong-state', 'a preflight is running: wait until it has ended')
      isRunning = true
      try {
        const hosts = await hostsOf(world.db, nodeset)
        const testPower = (host: string) => power.testPower({ host }, caller)
        const groups = await Promise.all([ownChecks(world), world.machineChecks(), controllerChecks(hosts, testPower)])
        const checks = groups.flat()
        return { outcome: worstOf(checks), checks }
      } finally {
        isRunning = false
      }
    },
  }
}

async function ownChecks(world: World): Promise<PreflightCheck[]> {
  const asked = await Promise.all([databaseCheck(world), clockCheck(world), libraryCheck(world)])
  return [...asked, certificateCheck(world)]
}

/** Thrown to undo what was only written to see whether it can be. */
class Undo extends Error {}

async function databaseCheck({ db, now }: World): Promise<PreflightCheck> {
  const name = 'database'
  try {
    const beganMs = performance.now()
    await db
      .transaction()
      .execute(async (tx) => {
        await addEvent(tx, { source: 'service', kind: 'preflight', text: 'undone' }, now())
        throw new Undo()
      })
      .catch((error: unknown) => {
        if (!(error instanceof Undo)) throw error
      })
    const ms = Math.round(performance.now() - beganMs)
    return { name, outcome: 'ok', says: `takes a row, in ${ms} ms` }
  } catch (error) {
    const says = `takes no row: ${causeChain(error).join(': ')}`
    return { name, outcome: 'failure', says, fix: 'Look at its disk and rights; the log of the service has more.' }
  }
}

async function clockCheck({ db, now }: World): Promise<PreflightCheck> {
  const name = 'clock'
  const fix =
    'Set the clock of this server, and keep it by NTP: certificates, deadlines and the order of events hang on it.'
  const at = now()
  const says = `it is ${new Date(at).toISOString()}`
  if (at < clockMin) return { name, outcome: 'failure', says: `${says}, which is before this program was written`, fix }
  const newest = await newestEventAt(db).catch(() => undefined)
  if (newest !== undefined && newest > at + clockSlackMs) {
    return {
      name,
      outcome: 'failure',
      says: `${says}, and the newest event is of ${new Date(newest).toISOString()}`,
      fix,
    }
  }
  return { name, outcome: 'ok', says }
}

/** Enough to notice and to renew it. */
const certificateMsFew = 14 * 86_400_000

function certificateCheck({ certificate, now }: World): PreflightCheck {
  const name = 'certificate'
  const used = certificate()
  if (used === undefined) return { name, outcome: 'ok', says: 'the service uses none: its ports speak plain HTTP' }
  const leftMs = Date.parse(used.expiresAt) - now()
  const says = `is good until ${used.expiresAt}, for ${used.names.join(', ')}`
  const fix = 'Renew it: clients refuse the service when it has expired.'
  if (leftMs <= 0) return { name, outcome: 'failure', says: `has expired: it was good until ${used.expiresAt}`, fix }
  return leftMs < certificateMsFew ? { name, outcome: 'warning', says, fix } : { name, outcome: 'ok', says }
}

async function libraryCheck({ library }: World): Promise<PreflightCheck> {
  const name = 'image library'
  try {
    await access(library.folder, constants.W_OK)
    const { bavail, bsize } = await statfs(library.folder)
    const says = `${library.folder} has ${Math.round((bavail * bsize) / 2 ** 20)} MiB free`
    const fix = 'Free space, or move the library to a larger disk: hades image collect removes what nothing uses.'
    if (bavail * bsize < freeBytesMin) return { name, outcome: 'failure', says, fix }
    return bavail * bsize < freeBytesFew ? { name, outcome: 'warning', says, fix } : { name, outcome: 'ok', says }
  } catch (error) {
    const fix = 'Give the service the right to write there.'
    return { name, outcome: 'failure', says: `cannot be written: ${causeChain(error).join(': ')}`, fix }
  }
}

type TestPower = (host: string) => ReturnType<Handlers<typeof powerOperations>['testPower']>

/** A line for each controller that does not do, and one for all that do. */
async function controllerChecks(hosts: readonly Host[], testPower: TestPower): Promise<PreflightCheck[]> {
  const limit = pLimit(controllersAtOnce)
  const end = performance.now() + controllersMs
  const outcomes = await Promise.all(
    hosts.map((host) =>
      limit(async () => {
        const left = end - performance.now()
        return left <= 0 ? undefined : await within(testPower(host.name), left)
      }),
    ),
  )
  const bad = outcomes.flatMap((answer) => (answer?.outcome.failure ? [controllerFailure(answer.outcome)] : []))
  const unasked = outcomes.filter((answer) => answer === undefined).length
  const good = outcomes.length - bad.length - unasked
  const name = 'controllers'
  return [
    { name, outcome: 'ok', says: hosts.length === 0 ? 'there is no host yet' : `${good} of ${hosts.length} answer` },
    ...bad,
    ...(unasked === 0
      ? []
      : [
          couldNotLook(
            name,
            `${unasked} had not answered when the time was over`,
            'Look at fewer: hades preflight <nodeset>.',
          ),
        ]),
  ]
}

/** The answer, or undefined when it takes longer; a controller that is still being asked ends by its own deadline. */
async function within<T>(answer: Promise<T>, ms: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ms)
  })
  return await Promise.race([answer, late]).finally(() => clearTimeout(timer))
}

function controllerFailure({ host, failure }: PowerOutcome): PreflightCheck {
  const says = failure?.message.join(': ') ?? 'no answer'
  // A host that somebody switches by hand is known to be so.
  const outcome = failure?.code === 'no-power-method' ? 'warning' : 'failure'
  return {
    name: `controller of ${host}`,
    outcome,
    says,
    fix: 'hades host show, hades power test: address, user, password, options.',
  }
}
