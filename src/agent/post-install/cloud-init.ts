// A seed for cloud-init's data source NoCloud, in the file system of the new system: it is read at the first boot, from no
// network and no second disk.

import { Failure } from '../../model/failure.ts'
import type { CloudInit } from '../../model/post-install.ts'
import { type ActionResult, done } from './action.ts'
import type { TargetRoot } from './target-root.ts'

const folder = '/var/lib/cloud/seed/nocloud'
const programs = ['/usr/bin/cloud-init', '/usr/local/bin/cloud-init', '/usr/sbin/cloud-init']

export type Seed = CloudInit & { readonly deployment: number; readonly host: string }

/**
 * Writes the seed. Throws Failure `post-install-failed` where cloud-init is missing or switched off: the host would come up
 * without what the setup says, and nobody would tell.
 */
export async function writeSeed(tree: TargetRoot, seed: Seed): Promise<ActionResult> {
  const present = await Promise.all(programs.map((path) => tree.stat(path)))
  if (present.every((stats) => stats === undefined)) {
    const sentence = 'the new system has no cloud-init, so nothing would read the seed'
    throw new Failure(
      'post-install-failed',
      `${sentence}: install it in the image or by a script, or leave the seed out`,
    )
  }
  if (await tree.has('/etc/cloud/cloud-init.disabled')) {
    const sentence = 'cloud-init is switched off in the image by /etc/cloud/cloud-init.disabled'
    throw new Failure('post-install-failed', `${sentence}: nothing would read the seed`)
  }
  const metaData = metaDataOf(seed)
  // Passwords and keys may be in it.
  const secret = { mode: 0o600 }
  await tree.makeFolder(folder, { mode: 0o700 })
  await tree.write(`${folder}/user-data`, seed.userData, secret)
  await tree.write(`${folder}/meta-data`, metaData, secret)
  if (seed.networkConfig !== undefined) await tree.write(`${folder}/network-config`, seed.networkConfig, secret)
  else await tree.remove(`${folder}/network-config`)
  // Without it the image's own list counts, which may not name NoCloud, or another source first.
  await tree.write('/etc/cloud/cloud.cfg.d/99-hades-seed.cfg', 'datasource_list: [NoCloud, None]\n')
  const [, instance = ''] = /^\s*instance-id:\s*(.+)$/m.exec(metaData) ?? []
  const network = seed.networkConfig === undefined ? '' : ', network-config'
  return done(`${folder} has user-data, meta-data${network}; instance ${instance.trim()}`)
}

/** A new instance with each deployment: cloud-init does its work again, whatever the image says it has done. */
export function metaDataOf({ metaData, deployment, host }: Seed): string {
  const instance = `instance-id: hades-${deployment}\n`
  if (metaData === undefined) return `${instance}local-hostname: ${host}\n`
  return /^\s*instance-id\s*:/m.test(metaData) ? metaData : `${instance}${metaData}`
}
