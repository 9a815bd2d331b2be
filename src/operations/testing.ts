// A world for tests: a database of its own in memory, a library in a folder of its own, a clock that the test can put forward.
import { access, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import type { Inventory, Proof } from '../contract/types.ts'
import { findDeployment, moveDeployment } from '../db/deployments.ts'
import { lookUpSeen, putNonce, seenNow } from '../db/discovered.ts'
import { openTestDatabase } from '../db/testing.ts'
import { openLibrary } from '../image/library.ts'
import { Keyring } from '../lib/seal.ts'
import { Secret } from '../lib/secret.ts'
import { SigningKey } from '../lib/signing.ts'
import { type DeploymentState, isOpen } from '../model/deployment.ts'
import type { ImageKind } from '../model/image.ts'
import { attemptToken, reportToken } from '../model/token.ts'
import { newAttempts } from './attempts.ts'
import type { World } from './world.ts'

export type TestWorld = World & { readonly clock: { offsetMs: number }; close(): Promise<void> }

export async function openTestWorld(): Promise<TestWorld> {
  const folder = await mkdtemp(join(tmpdir(), 'hades-world-'))
  const clock = { offsetMs: 0 }
  const db = await openTestDatabase()
  return {
    db,
    keyring: new Keyring(Keyring.randomKey()),
    signingKey: new SigningKey(SigningKey.randomSeed()),
    library: await openLibrary(folder),
    log: pino({ level: 'silent' }),
    now: () => Date.now() + clock.offsetMs,
    owner: 'test',
    confirmAbove: 20,
    startedAt: Date.now(),
    bootBase: 'http://10.77.0.1:7780',
    bootFiles: {
      netboot: join(folder, 'netboot'),
      has: (profile, file) =>
        access(join(folder, 'netboot', profile, file)).then(
          () => true,
          () => false,
        ),
    },
    machineChecks: async () => [],
    adminToken: new Secret('the-admin-token'),
    attempts: newAttempts(),
    keepKeys: async () => {},
    certificate: () => undefined,
    services: [],
    clock,
    async close() {
      await db.destroy()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** An image that is only a name: nothing is fetched in these tests. */
export async function nameImage(
  world: World,
  name: string,
  version: string,
  kind: ImageKind = 'disk',
): Promise<string> {
  const digest = 'd'.repeat(64)
  await world.db
    .insertInto('images')
    .values({
      name,
      version,
      kind,
      digest,
      size_bytes: 2 ** 30,
      data_bytes: 2 ** 29,
      stored_bytes: 2 ** 27,
      published_at: 0,
    })
    .execute()
  return digest
}

/** What the engine does when it has switched a machine on: a new attempt with a boot token. Returns the token. */
export async function armDeployment(world: World, id: number, nonce = 'nonce-1'): Promise<string> {
  const { db } = world
  const row = await findDeployment(db, id)
  const by = { by: 'engine', at: world.now() } as const
  const attempt = { boot_nonce: nonce, attempt: row.attempt + 1, agent: null }
  if (row.state !== 'powering') await moveDeployment(db, row, 'powering', attempt, by)
  await moveDeployment(db, await findDeployment(db, id), 'booting', { boot_nonce: nonce }, by)
  return attemptToken(world.keyring, { id, nonce })?.reveal() ?? ''
}

/** What the answer to a loader does while machines of no host are to boot the scout. Returns the token of the report. */
export async function armReport({ db, now, keyring }: World, mac: string, nonce = 'nonce-1'): Promise<string> {
  const row = await seenNow(db, { mac, source: 'boot', said: 'asked' }, now())
  if (row) await putNonce(db, row, nonce, now())
  const armed = await lookUpSeen(db, mac)
  return (armed && reportToken(keyring, { mac, nonce, armedAt: armed.armed_at }, now())?.reveal()) ?? ''
}

/** As many machines of no host as are kept, each seen once, the first one longest ago. */
export async function fillDiscovered({ db }: World, count: number, since: number): Promise<void> {
  const hex = (number: number) => number.toString(16).padStart(2, '0')
  const rows = Array.from({ length: count }, (_, index) => ({
    mac: `02:00:00:00:${hex(index >> 8)}:${hex(index & 255)}`,
    state: 'waiting' as const,
    source: 'dhcp',
    said: 'asked',
    first_seen_at: since + index,
    last_seen_at: since + index,
    sightings: 1,
  }))
  for (let at = 0; at < rows.length; at += 500) {
    await db
      .insertInto('discovered')
      .values(rows.slice(at, at + 500))
      .execute()
  }
}

/** Ends a deployment, or moves it, whatever the state machine says: what came before is not played. */
export async function putState({ db, now }: World, id: number, state: DeploymentState): Promise<void> {
  const ended = isOpen(state) ? {} : { ended_at: now(), deadline_at: null, waiting_for: null }
  await db
    .updateTable('deployments')
    .set({ state, state_since: now(), ...ended })
    .where('id', '=', id)
    .execute()
}

export const exampleInventory: Inventory = {
  firmware: 'uefi',
  cpuModel: 'QEMU Virtual CPU',
  cpuCount: 2,
  memoryBytes: 2 ** 30,
  disks: [{ path: '/dev/vda', sizeBytes: 2 ** 32, sectorBytes: 512, rotational: false, serial: 'A1' }],
  interfaces: [{ name: 'eth0', mac: '52:54:00:00:00:01', carrier: true }],
}

export const exampleProof: Proof = {
  imageDigest: 'd'.repeat(64),
  diskPath: '/dev/vda',
  diskSizeBytes: 2 ** 32,
  bytesFetched: 1,
  bytesWritten: 2,
  bytesZeroed: 3,
  bytesReadBack: 5,
  places: [],
  actions: [],
  steps: [{ step: 'transfer', seconds: 1.5 }],
}
