// Erasing the disks of hosts: the Control Port's handlers and the Service Port's. An erasure is a deployment, so that the
// engine, the tokens, the events and the boot record do for it what they do for every other work.
import type { controlOperations } from '../contract/control.ts'
import type { EraseReport, EraseWork, ErasureView } from '../contract/erase-types.ts'
import type { Handlers, Input } from '../contract/operation.ts'
import type { serviceOperations } from '../contract/service.ts'
import { releaseBootRecord } from '../db/boot.ts'
import { activeDeployments, findDeployment, moveDeployment, type NamedDeployment } from '../db/deployments.ts'
import { addErasure, type Erasure, findErasure, recordErasure } from '../db/erasures.ts'
import { about, addEvent } from '../db/events.ts'
import { type Host, interfacesOf, powerMethodsOf } from '../db/hosts.ts'
import { recordAnswer } from '../db/once.ts'
import type { Db } from '../db/open.ts'
import { armBootRecord } from '../db/rollouts.ts'
import { foldNodeset } from '../lib/nodeset.ts'
import { eraseMs } from '../model/erase.ts'
import { Failure } from '../model/failure.ts'
import { admit, stop } from './agent-session.ts'
import { hostsOf, namesMeant } from './nodeset.ts'
import { onceOf } from './once.ts'
import { rolloutView } from './rollout-views.ts'
import { deploymentView, present } from './views.ts'
import type { World } from './world.ts'

type Order = Omit<Input<typeof controlOperations.startErase>, 'nodeset' | 'max' | 'confirm' | 'includeProtected'>

export function eraseHandlers({
  db,
  now,
}: World): Pick<Handlers<typeof controlOperations>, 'startErase' | 'getErasure'> {
  const viewOf = async (id: number, tx: Db = db) => {
    return { rollout: await rolloutView(tx, id, now()) }
  }
  return {
    async startErase({ nodeset, max, confirm, includeProtected, ...order }, caller) {
      const meant = namesMeant(includeProtected)
      const rolloutId = await db.transaction().execute(async (tx) => {
        const hosts = await hostsOf(tx, nodeset)
        requireMeant(hosts, { max, confirm })
        const isForbidden = ({ name, protected_reason }: Host) => protected_reason !== null && !meant.has(name)
        refuse(hosts, isForbidden, 'host-protected', 'are protected')
        const by = `${caller.kind} from ${caller.address}`
        const started = await startErase(tx, hosts, order, by, now())
        await recordAnswer(tx, onceOf(caller), await viewOf(started, tx))
        return started
      })
      return await viewOf(rolloutId)
    },
    async getErasure({ deployment }) {
      return { erasure: erasureView(await findErasure(db, deployment), await findDeployment(db, deployment), now()) }
    },
  }
}

/** Whoever asks must have said how many machines lose what they hold: a nodeset may name more than was thought. */
function requireMeant(
  hosts: readonly Host[],
  { max, confirm }: { readonly max: number | undefined; readonly confirm: number },
): void {
  const count = hosts.length
  if (count === 0) throw new Failure('bad-input', 'the nodeset has no hosts', { at: 'nodeset' })
  if (count > (max ?? count)) {
    throw new Failure('bad-input', `the nodeset has ${count} hosts, more than the ${max} allowed`, { at: 'max' })
  }
  if (confirm !== count) {
    const named = foldNodeset(hosts.map(({ name }) => name))
    throw new Failure(
      'bad-input',
      `this erases the disks of ${count} hosts, ${named}, and ${confirm} were confirmed: confirm ${count} if all of them are meant`,
      { at: 'confirm' },
    )
  }
}

/** Writes the rollout and points every host at the scout, all or nothing. */
async function startErase(
  tx: Db,
  hosts: readonly Host[],
  { method, disk, finish = 'poweroff', deadlineSeconds }: Order,
  by: string,
  now: number,
): Promise<number> {
  const ids = hosts.map(({ id }) => id)
  const busy = await activeDeployments(tx, ids)
  refuse(hosts, ({ id }) => busy.has(id), 'wrong-state', 'are in another rollout: wait for it or cancel it')
  const methods = await powerMethodsOf(tx, ids)
  refuse(hosts, ({ id }) => !methods.get(id)?.length, 'no-power-method', 'have no power method')
  const interfaces = await interfacesOf(tx, ids)
  refuse(hosts, ({ id }) => !interfaces.get(id)?.length, 'wrong-state', 'have no interface to boot from')
  const deadlineMs = deadlineSeconds === undefined ? eraseMs : deadlineSeconds * 1000
  const { rolloutId, deployments } = await addErasure(tx, ids, { method, disk, finish, deadlineMs }, now)
  for (const [hostId, deploymentId] of deployments) {
    if (!(await armBootRecord(tx, hostId, deploymentId, now))) {
      refuse(hosts, ({ id }) => id === hostId, 'wrong-state', 'was taken by another rollout at this moment: ask again')
    }
    const text = `rollout ${rolloutId} erases ${disk ?? 'the only disk'} by ${method}, by ${by}`
    await addEvent(tx, { source: 'control', kind: 'erase-started', text, hostId, deploymentId }, now)
  }
  return rolloutId
}

function refuse(
  hosts: readonly Host[],
  isWrong: (host: Host) => boolean,
  code: 'no-power-method' | 'wrong-state' | 'host-protected',
  sentence: string,
): void {
  const wrong = hosts.filter(isWrong).map(({ name }) => name)
  if (wrong.length > 0) throw new Failure(code, `${foldNodeset(wrong)} ${sentence}`, { at: 'nodeset' })
}

/** The Service Port's part: the agent has erased what it was told to. */
export function eraseIntake(world: World): Pick<Handlers<typeof serviceOperations>, 'completeErase'> {
  const { db, now } = world
  return {
    async completeErase({ deployment, report }, caller) {
      const row = await admit(world, deployment, caller)
      // The agent asks again when our answer was lost: what it asks for has happened then.
      if (row.state === 'rebooting' || row.state === 'done') return { action: 'continue' }
      if (row.state !== 'deploying') return stop(row)
      await findErasure(db, deployment)
      const moved = await db.transaction().execute(async (tx) => {
        const change = { step: null, bytes_per_second: 0, waiting_for: 'the machine to be let go' }
        if (!(await moveDeployment(tx, row, 'rebooting', change, { by: 'agent', at: now() }))) return false
        await recordErasure(tx, deployment, JSON.stringify(report))
        await releaseBootRecord(tx, row.host_id, row.id, undefined, now())
        const text = `erased: ${report.disks.map((disk) => disk.path).join(', ')}`
        await addEvent(tx, { source: 'agent', kind: 'completed', text, ...about(row) }, now())
        return true
      })
      return moved ? { action: 'continue' } : stop(await findDeployment(db, deployment))
    },
  }
}

/** What the agent of an erasure is told. */
export function eraseWork({ deployment_id, method, disk, finish }: Erasure): EraseWork {
  return { deployment: deployment_id, method, finish, ...present({ disk }) }
}

function erasureView({ method, disk, finish, report }: Erasure, row: NamedDeployment, now: number): ErasureView {
  return {
    method,
    finish,
    ...present({ disk }),
    // Reader of our own JSON: `completeErase` is its only writer.
    ...(report === null ? {} : { report: JSON.parse(report) as EraseReport }),
    deployment: deploymentView(row, now),
  }
}
