// The Control Port's handlers for images.
import type { imageOperations } from '../contract/image-types.ts'
import type { Handlers } from '../contract/operation.ts'
import { addEvent } from '../db/events.ts'
import { changeImage, findImage, pageOfImages, usersOfImage } from '../db/images.ts'
import { parseImageReference } from '../model/image.ts'
import { collectImages, publishImage, withdrawImage } from './images.ts'
import { onceOf } from './once.ts'
import { nextOf, pageOf } from './paging.ts'
import { imageView, taskView } from './views.ts'
import type { World } from './world.ts'

export function imageHandlers(world: World): Handlers<typeof imageOperations> {
  const { db, now } = world
  return {
    async publishImage({ reference, path, ...how }, caller) {
      const once = onceOf(caller)
      return { task: taskView(await publishImage(world, parseImageReference(reference), path, { ...how, once })) }
    },
    async getImage({ reference }) {
      const image = await findImage(db, parseImageReference(reference))
      const { publicKey } = world.signingKey
      return { image: imageView(image), publicKey, users: await usersOfImage(db, image) }
    },
    async listImages({ sort, limit, cursor, ...filter }) {
      const page = await pageOfImages(db, filter, sort ?? 'name', pageOf({ limit, cursor }))
      return { images: page.rows.map(imageView), ...nextOf(page) }
    },
    async changeImage({ reference, ...change }) {
      const image = await db.transaction().execute(async (tx) => {
        const found = await findImage(tx, parseImageReference(reference))
        await changeImage(tx, found, change)
        const protection =
          change.isProtected === undefined ? '' : `: ${change.isProtected ? '' : 'no longer '}protected`
        const text = `image ${reference} was changed${protection}`
        await addEvent(tx, { source: 'control', kind: 'image-changed', text }, now())
        return await findImage(tx, found)
      })
      return { image: imageView(image) }
    },
    async removeImage({ reference }) {
      await withdrawImage(world, parseImageReference(reference))
      return {}
    },
    async collectImages({ dryRun }) {
      return await collectImages(world, { dryRun: dryRun ?? false })
    },
  }
}
