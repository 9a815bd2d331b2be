// The disks of hosts that deployments have proven, and that may therefore be overwritten again.
import type { ApprovedDisk } from '../model/approved-disk.ts'
import { inChunks } from './chunks.ts'
import type { Db } from './open.ts'

/** No host's list grows beyond this: the oldest are forgotten. */
const disksMax = 64

/** By host id, the oldest first. */
export async function approvedDisksOf(db: Db, hostIds: readonly number[]): Promise<Map<number, ApprovedDisk[]>> {
  const rows = await inChunks(hostIds, (chunk) =>
    db.selectFrom('approved_disks').selectAll().where('host_id', 'in', chunk).orderBy('id').execute(),
  )
  const found = new Map<number, ApprovedDisk[]>()
  for (const { host_id, name, size_bytes, model, serial, wwn } of rows) {
    const disk = {
      name,
      sizeBytes: size_bytes,
      ...(model === null ? {} : { model }),
      ...(serial === null ? {} : { serial }),
      ...(wwn === null ? {} : { wwn }),
    }
    found.set(host_id, [...(found.get(host_id) ?? []), disk])
  }
  return found
}

/** Adds a disk to those of a host. Call it in a transaction. */
export async function approveDisk(db: Db, hostId: number, disk: ApprovedDisk, now: number): Promise<void> {
  const row = {
    host_id: hostId,
    name: disk.name,
    size_bytes: disk.sizeBytes,
    model: disk.model ?? null,
    serial: disk.serial ?? null,
    wwn: disk.wwn ?? null,
    approved_at: now,
  }
  await db.insertInto('approved_disks').values(row).execute()
  const rows = await db
    .selectFrom('approved_disks')
    .select('id')
    .where('host_id', '=', hostId)
    .orderBy('id', 'desc')
    .execute()
  const oldest = rows.slice(disksMax).map(({ id }) => id)
  if (oldest.length > 0) await db.deleteFrom('approved_disks').where('id', 'in', oldest).execute()
}
