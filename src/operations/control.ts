// The Control Port's handlers: one a contract entry, each a straight line from input to rows and back.
import { statfs } from 'node:fs/promises'
import type { controlOperations } from '../contract/control.ts'
import type { Handlers } from '../contract/operation.ts'
import { countStates } from '../db/deployments.ts'
import { countHosts } from '../db/hosts.ts'
import { countImages } from '../db/images.ts'
import { rebootsOf } from '../db/reboots.ts'
import { listSetups } from '../db/setups.ts'
import { findTask, pageOfTasks } from '../db/tasks.ts'
import { auditHandlers } from './audit.ts'
import { bootHandlers, profileHandlers } from './boot.ts'
import { captureHandlers } from './captures.ts'
import { discoveryHandlers } from './discovery.ts'
import { eraseHandlers } from './erasures.ts'
import { eventHandlers } from './events.ts'
import { explainHandlers } from './explain.ts'
import { hostImportHandlers } from './host-import.ts'
import { hostHandlers } from './hosts.ts'
import { imageHandlers } from './image-handlers.ts'
import { keyHandlers } from './keys.ts'
import { nextOf, pageOf } from './paging.ts'
import { preflightHandlers } from './preflight.ts'
import { proofHandlers } from './proof.ts'
import { holdHandlers } from './rollout-holds.ts'
import { rolloutHandlers } from './rollouts.ts'
import { scriptHandlers, setupHandlers } from './setups.ts'
import { swarmHandlers } from './swarm.ts'
import { sessionHandlers, tokenHandlers, userHandlers } from './users.ts'
import { version } from './version.ts'
import { dateTime, taskView } from './views.ts'
import { webhookHandlers } from './webhooks.ts'
import type { World } from './world.ts'

export function controlHandlers(world: World): Handlers<typeof controlOperations> {
  return {
    ...statusHandlers(world),
    ...hostHandlers(world),
    ...hostImportHandlers(world),
    ...discoveryHandlers(world),
    ...setupHandlers(world),
    ...scriptHandlers(world),
    ...imageHandlers(world),
    ...bootHandlers(world),
    ...profileHandlers(world),
    ...rolloutHandlers(world),
    ...holdHandlers(world),
    ...captureHandlers(world),
    ...eraseHandlers(world),
    ...swarmHandlers(world),
    ...explainHandlers(world),
    ...proofHandlers(world),
    ...preflightHandlers(world),
    ...eventHandlers(world),
    ...webhookHandlers(world),
    ...sessionHandlers(world),
    ...userHandlers(world),
    ...tokenHandlers(world),
    ...auditHandlers(world),
    ...keyHandlers(world),
  }
}

type Some<Names extends keyof typeof controlOperations> = Pick<Handlers<typeof controlOperations>, Names>

function statusHandlers({ db, library, startedAt, services }: World): Some<'getStatus' | 'getTask' | 'listTasks'> {
  return {
    async getStatus() {
      const { bavail, bsize } = await statfs(library.folder)
      return {
        version,
        startedAt: dateTime(startedAt),
        hosts: await countHosts(db),
        images: await countImages(db),
        setups: (await listSetups(db)).length,
        states: await countStates(db),
        freeBytes: bavail * bsize,
        services: [...services],
      }
    },
    async getTask({ task }) {
      const found = await findTask(db, task)
      return { task: taskView(found, found.kind === 'reboot' ? await rebootsOf(db, found.id) : undefined) }
    },
    async listTasks({ state, ...input }) {
      const page = await pageOfTasks(db, state, pageOf(input))
      return { tasks: page.rows.map((row) => taskView(row)), ...nextOf(page) }
    },
  }
}
