// Boot records and netboot profiles: what machines boot when they next ask, and having them ask.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { controlOperations } from '../contract/control.ts'
import type { Handlers } from '../contract/operation.ts'
import { bootRecordsOf, hostsThatBoot, setBootTarget } from '../db/boot.ts'
import { activeDeployments } from '../db/deployments.ts'
import { addEvent } from '../db/events.ts'
import { pageOfHosts } from '../db/host-list.ts'
import type { Host } from '../db/hosts.ts'
import { recordAnswer } from '../db/once.ts'
import type { Db } from '../db/open.ts'
import { findProfile, pageOfProfiles, putProfile, removeProfile, type StoredProfile } from '../db/profiles.ts'
import { addReboot } from '../db/reboots.ts'
import { addTask } from '../db/tasks.ts'
import { foldNodeset } from '../lib/nodeset.ts'
import { type BootTarget, isSpent, partsOf, targetNow } from '../model/boot.ts'
import { Failure } from '../model/failure.ts'
import { checkProfile, filesOf, type NetbootProfile } from '../model/profile.ts'
import { refuseBusy } from './busy.ts'
import { hostIdsOf, hostsOf } from './nodeset.ts'
import { onceOf } from './once.ts'
import { nextOf, pageOf } from './paging.ts'
import { dateTime, present, taskView } from './views.ts'
import type { World } from './world.ts'

type Some<Names extends keyof typeof controlOperations> = Pick<Handlers<typeof controlOperations>, Names>

/** Failure `unknown-profile` when `target` names a profile that there is not. */
export async function refuseUnknownProfile(db: Db, target: BootTarget | undefined, at: string): Promise<void> {
  const parts = target === undefined ? undefined : partsOf(target)
  if (parts?.kind === 'netboot') await findProfile(db, parts.profile, at)
}

export function bootHandlers({ db, now, owner }: World): Some<'setBoot' | 'listBoot'> {
  return {
    async setBoot({ nodeset, target, asDefault = false, once = false, reboot = false }, caller) {
      refuseContradiction(target, { asDefault, once })
      return await db.transaction().execute(async (tx) => {
        const at = now()
        const found = await hostsOf(tx, nodeset)
        refuseBusy(await activeDeployments(tx), found, 'are being deployed: cancel that first')
        await refuseUnknownProfile(tx, target, 'target')
        // The name of a task is an index's, of 190 characters.
        const subject = foldNodeset(found.map((host) => host.name)).slice(0, 190)
        const task = reboot ? await addTask(tx, { kind: 'reboot', subject, owner }, at) : undefined
        const how = once ? ', for one boot' : asDefault ? ', and by default' : ''
        for (const host of found) {
          await setBootTarget(tx, host.id, { target, asDefault, once }, at)
          if (task) await addReboot(tx, { taskId: task.id, hostId: host.id, target }, at)
          const text = `boots ${target} next${how}${task ? `; task ${task.id} switches it` : ''}`
          await addEvent(tx, { source: 'control', kind: 'boot-set', text, hostId: host.id }, at)
        }
        const answer = { records: await recordViews(tx, found, now()), ...(task ? { task: taskView(task) } : {}) }
        await recordAnswer(tx, onceOf(caller), answer)
        return answer
      })
    },
    async listBoot({ nodeset, target, ...input }) {
      const page = await pageOfHosts(db, { ids: await hostIdsOf(db, nodeset), target }, 'name', pageOf(input))
      return { records: await recordViews(db, page.rows, now()), ...nextOf(page) }
    },
  }
}

function refuseContradiction(target: BootTarget, { asDefault, once }: { asDefault: boolean; once: boolean }): void {
  if (!once) return
  if (asDefault) throw new Failure('bad-input', 'for one boot and by default at once cannot be', { at: 'once' })
  if (target === 'hold') {
    throw new Failure('bad-input', 'a machine on hold boots nothing, so it cannot be for one boot', { at: 'once' })
  }
}

async function recordViews(db: Db, hosts: readonly Host[], now: number) {
  const records = await bootRecordsOf(
    db,
    hosts.map((host) => host.id),
  )
  return hosts.flatMap((host) => {
    const record = records.get(host.id)
    if (!record) return []
    const { askedAt, deploymentId } = record
    return {
      host: host.name,
      target: targetNow(record, now),
      defaultTarget: record.defaultTarget,
      once: record.isOnce && !isSpent(record, now),
      changedAt: dateTime(record.changedAt),
      ...present({ deployment: deploymentId, askedAt: askedAt === null ? undefined : dateTime(askedAt) }),
    }
  })
}

export function profileHandlers({
  db,
  now,
  bootFiles,
}: World): Some<'putProfile' | 'getProfile' | 'listProfiles' | 'removeProfile'> {
  const folderOf = (name: string) => join(bootFiles.netboot, name)
  const viewOf = ({ changedAt, initrds, ...profile }: StoredProfile) => ({
    ...present(profile),
    initrds: [...initrds],
    folder: folderOf(profile.name),
    changedAt: dateTime(changedAt),
  })
  return {
    async putProfile({ initrds = [], arguments: template = '', ...input }) {
      const profile: NetbootProfile = { ...input, initrds, arguments: template }
      checkProfile(profile)
      await mkdir(folderOf(profile.name), { recursive: true })
      for (const [at, file] of filesOf(profile)) {
        if (await bootFiles.has(profile.name, file)) continue
        throw new Failure('bad-input', `there is no file ${file} in ${folderOf(profile.name)}: copy it there first`, {
          at,
        })
      }
      await db.transaction().execute(async (tx) => {
        await putProfile(tx, profile, now())
        const text = `netboot profile ${profile.name} was put`
        await addEvent(tx, { source: 'control', kind: 'profile-put', text }, now())
      })
      return { profile: viewOf(await findProfile(db, profile.name)) }
    },
    async getProfile({ name }) {
      return { profile: viewOf(await findProfile(db, name)) }
    },
    async listProfiles(input) {
      const page = await pageOfProfiles(db, pageOf(input))
      return { profiles: page.rows.map(viewOf), ...nextOf(page) }
    },
    async removeProfile({ name }) {
      await db.transaction().execute(async (tx) => {
        await findProfile(tx, name)
        const users = await hostsThatBoot(tx, `netboot:${name}`, usersShownMax + 1)
        if (users.length > 0) {
          const more = users.length > usersShownMax ? ' and more' : ''
          const shown = foldNodeset(users.slice(0, usersShownMax)) + more
          throw new Failure('in-use', `the boot records of ${shown} name profile ${name}: point them elsewhere first`, {
            at: 'name',
          })
        }
        await removeProfile(tx, name)
        await addEvent(
          tx,
          { source: 'control', kind: 'profile-removed', text: `netboot profile ${name} was removed` },
          now(),
        )
      })
      return {}
    },
  }
}

/** How many hosts a refusal names. */
const usersShownMax = 100
