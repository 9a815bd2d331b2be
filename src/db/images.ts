// Published images: a name and version for a digest in the library.
import type { Insertable, Selectable } from 'kysely'
import { openStates } from '../model/deployment.ts'
import { Failure } from '../model/failure.ts'
import { formatImageReference, type ImageKind, type ImageReference, type ImageSort } from '../model/image.ts'
import type { Db } from './open.ts'
import { type Page, type Paged, readPage } from './page.ts'
import type { ImageRow } from './schema.ts'

export type Image = Selectable<ImageRow>

/** The image, or undefined when none has this name and version. */
export async function lookUpImage(db: Db, { name, version }: ImageReference): Promise<Image | undefined> {
  return await db
    .selectFrom('images')
    .selectAll()
    .where('name', '=', name)
    .where('version', '=', version)
    .executeTakeFirst()
}

/** The image; Failure `unknown-image`. */
export async function findImage(db: Db, reference: ImageReference): Promise<Image> {
  const image = await lookUpImage(db, reference)
  if (!image)
    throw new Failure('unknown-image', `there is no image ${formatImageReference(reference)}`, { at: 'reference' })
  return image
}

/** All images. */
export async function listImages(db: Db): Promise<Image[]> {
  return await db.selectFrom('images').selectAll().orderBy('name').orderBy('version').execute()
}

/** Images that fit, in the order asked for. */
export async function pageOfImages(
  db: Db,
  filter: {
    readonly name?: string | undefined
    readonly kind?: ImageKind | undefined
    readonly isProtected?: boolean | undefined
  },
  sort: ImageSort,
  page: Page,
): Promise<Paged<Image>> {
  const { name, kind, isProtected } = filter
  const query = db
    .selectFrom('images')
    .selectAll()
    .$if(name !== undefined, (images) => images.where('name', '=', name ?? ''))
    .$if(kind !== undefined, (images) => images.where('kind', '=', kind ?? 'disk'))
    .$if(isProtected !== undefined, (images) => images.where('is_protected', '=', isProtected ? 1 : 0))
  const id = { by: 'id' as const, of: (image: Image) => image.id, descending: true }
  if (sort === 'newest') {
    return await readPage(
      query,
      [{ by: 'published_at', of: (image) => image.published_at, descending: true }, id],
      page,
    )
  }
  if (sort === 'largest') {
    return await readPage(
      query,
      [{ by: 'stored_bytes', of: (image) => image.stored_bytes, descending: true }, id],
      page,
    )
  }
  const order = [
    { by: 'name' as const, of: (image: Image) => image.name },
    { by: 'version' as const, of: (image: Image) => image.version },
  ]
  return await readPage(query, order, page)
}

/** How many images there are. */
export async function countImages(db: Db): Promise<number> {
  const row = await db
    .selectFrom('images')
    .select((eb) => eb.fn.countAll<number>().as('n'))
    .executeTakeFirstOrThrow()
  return row.n
}

/** The digests that have a name, or that a deployment under way writes. */
export async function neededDigests(db: Db): Promise<Set<string>> {
  const named = await db.selectFrom('images').select('digest').distinct().execute()
  const written = await db
    .selectFrom('rollout_images')
    .innerJoin('deployments', 'deployments.rollout_id', 'rollout_images.rollout_id')
    .select('rollout_images.digest')
    .distinct()
    .where('state', 'in', openStates)
    .execute()
  return new Set([...named, ...written].map(({ digest }) => digest))
}

/** What is said of an image; empty texts are taken back. */
export async function changeImage(
  db: Db,
  image: Image,
  change: { readonly owner?: string; readonly description?: string; readonly isProtected?: boolean },
): Promise<void> {
  const { owner, description, isProtected } = change
  const set = {
    ...(owner === undefined ? {} : { owner: owner || null }),
    ...(description === undefined ? {} : { description: description || null }),
    ...(isProtected === undefined ? {} : { is_protected: isProtected ? 1 : 0 }),
  }
  if (Object.keys(set).length === 0) return
  await db.updateTable('images').set(set).where('id', '=', image.id).execute()
}

/** Names a digest. Failure `already-exists`: a version is never given another content. */
export async function addImage(db: Db, image: Insertable<ImageRow>): Promise<void> {
  if (await lookUpImage(db, image)) {
    throw new Failure('already-exists', `there is an image ${formatImageReference(image)} already`, { at: 'reference' })
  }
  await db.insertInto('images').values(image).execute()
}

/** The signature of a digest, by whatever name it has. */
export async function signatureOf(db: Db, digest: string): Promise<string | undefined> {
  const signed = db.selectFrom('images').select('signature').where('digest', '=', digest)
  return (await signed.where('signature', 'is not', null).executeTakeFirst())?.signature ?? undefined
}

/** Signs every image that has no signature, which are those of a time before there was a key. */
export async function signImages(db: Db, sign: (digest: string) => string): Promise<void> {
  for (const { id, digest } of await db.selectFrom('images').selectAll().where('signature', 'is', null).execute()) {
    await db
      .updateTable('images')
      .set({ signature: sign(digest) })
      .where('id', '=', id)
      .execute()
  }
}

/** Removes the name; true when no other name has the same digest, so that the files may go too. */
export async function removeImage(db: Db, image: Image): Promise<boolean> {
  await db.deleteFrom('images').where('id', '=', image.id).execute()
  const other = await db.selectFrom('images').select('id').where('digest', '=', image.digest).executeTakeFirst()
  return other === undefined
}

/** How many names a digest has. */
export async function imagesOfDigest(db: Db, digest: string): Promise<number> {
  return (await db.selectFrom('images').select('id').where('digest', '=', digest).execute()).length
}

/** What needs an image, in words: setups that name it (newest versions), deployments under way. */
export async function usersOfImage(db: Db, image: Image): Promise<string[]> {
  const setups = await db
    .selectFrom('setup_images')
    .innerJoin('setups', 'setups.id', 'setup_images.setup_id')
    .select(['setups.name', 'setups.version'])
    .where('image_name', '=', image.name)
    .where('image_version', '=', image.version)
    .where((eb) =>
      eb.not(
        eb.exists(
          eb
            .selectFrom('setups as newer')
            .select('newer.id')
            .whereRef('newer.name', '=', 'setups.name')
            .whereRef('newer.version', '>', 'setups.version'),
        ),
      ),
    )
    .execute()
  const deployments = await db
    .selectFrom('deployments')
    .innerJoin('hosts', 'hosts.id', 'deployments.host_id')
    .innerJoin('rollout_images', 'rollout_images.rollout_id', 'deployments.rollout_id')
    .select('hosts.name')
    .distinct()
    .where('rollout_images.digest', '=', image.digest)
    .where('state', 'in', openStates)
    .execute()
  return [
    ...setups.map((setup) => `setup ${setup.name}:${setup.version}`),
    ...deployments.map((deployment) => `the deployment of ${deployment.name}`),
  ]
}
