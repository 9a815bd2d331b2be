// Images as the Control Port shows them, and what it does with them.
import { type Static, Type } from 'typebox'
import { imageKinds, imageSorts } from '../model/image.ts'
import { operation } from './operation.ts'
import { pageInput, pageOutput } from './paging.ts'
import { bytes, dateTime, hygiene, imageReference, label, sha256, task, words } from './types.ts'

export const imageKind = words(imageKinds, { title: 'ImageKind' })

const description = Type.String({ maxLength: 4000, description: 'What people say of it; empty for nothing' })
const owner = Type.String({ maxLength: 190, description: 'Whose it is; empty for nobody' })

/** What was seen in one partition of a disk when it was imported. */
const imageVolume = Type.Object(
  {
    partition: Type.Integer({ minimum: 0, description: '0 for an image without partitions' }),
    offset: bytes,
    sizeBytes: bytes,
    fileSystem: Type.String({ maxLength: 190, description: '`unknown` where none that can be read was seen' }),
    freeBytes: Type.Integer({ minimum: 0, description: 'Bytes that it calls free: neither sent nor written' }),
    kept: Type.Optional(Type.String({ maxLength: 4000, description: 'Why its free space is kept nevertheless' })),
  },
  { title: 'ImageVolume' },
)

const archiveCounts = Type.Object(
  {
    files: bytes,
    directories: bytes,
    symlinks: bytes,
    hardLinks: bytes,
    specials: Type.Integer({ minimum: 0, description: 'Device nodes and pipes' }),
    contentBytes: Type.Integer({ minimum: 0, description: 'Bytes of all files, unpacked' }),
  },
  { title: 'ArchiveCounts' },
)

export const image = Type.Object(
  {
    reference: imageReference,
    digest: sha256,
    kind: imageKind,
    sizeBytes: bytes,
    dataBytes: Type.Integer({ minimum: 0, description: 'Bytes of disk in frames that are not all zeros' }),
    freeBytes: Type.Integer({ minimum: 0, description: 'Bytes of disk that may read as anything' }),
    storedBytes: bytes,
    publishedAt: dateTime,
    isProtected: Type.Boolean({ description: 'It cannot be removed until this is taken back' }),
    owner: Type.Optional(owner),
    description: Type.Optional(description),
    signature: Type.Optional(Type.String({ maxLength: 190, description: 'Ed25519, of the digest, by this service' })),
    volumes: Type.Array(imageVolume, { maxItems: 1024 }),
    archive: Type.Optional(archiveCounts),
    hygiene: Type.Optional(hygiene),
  },
  { title: 'Image' },
)
export type ImageView = Static<typeof image>

const collected = Type.Object({ digest: sha256, storedBytes: bytes }, { title: 'CollectedImage' })

export const imageOperations = {
  publishImage: operation({
    summary: 'Starts to import an image that the service can read; watch the task that it returns',
    access: 'operator',
    rest: { method: 'POST', path: '/images' },
    input: Type.Object({
      reference: imageReference,
      path: Type.String({
        minLength: 1,
        maxLength: 4000,
        description: 'Absolute path of a file, folder or block device on the machine of the service',
      }),
      kind: Type.Optional(imageKind),
      devices: Type.Optional(Type.Boolean({ description: 'Device nodes may be in a tar archive' })),
      owner: Type.Optional(owner),
      description: Type.Optional(description),
    }),
    output: Type.Object({ task }),
    once: 'recorded',
    failures: ['already-exists', 'image-broken', 'image-too-large', 'library-full'],
  }),
  getImage: operation({
    summary: 'One published image and what needs it',
    access: 'viewer',
    rest: { method: 'GET', path: '/images/{reference}' },
    input: Type.Object({ reference: imageReference }),
    output: Type.Object({
      image,
      publicKey: Type.String({
        minLength: 1,
        maxLength: 190,
        description: 'Of this service: what checks the signature',
      }),
      users: Type.Array(label, { description: 'Setups that name it and deployments under way, in words' }),
    }),
    failures: ['unknown-image'],
  }),
  listImages: operation({
    summary: 'Published images, all or the versions of one name; of one kind, protected or not',
    access: 'viewer',
    rest: { method: 'GET', path: '/images' },
    input: Type.Object({
      name: Type.Optional(label),
      kind: Type.Optional(imageKind),
      isProtected: Type.Optional(Type.Boolean()),
      sort: Type.Optional(words(imageSorts, { description: '`name` if not said' })),
      ...pageInput(),
    }),
    output: Type.Object({ images: Type.Array(image), ...pageOutput }),
    failures: [],
  }),
  changeImage: operation({
    summary: 'Changes what is said of an image, and whether it may be removed; its content never changes',
    access: 'admin',
    rest: { method: 'PATCH', path: '/images/{reference}' },
    input: Type.Object({
      reference: imageReference,
      owner: Type.Optional(owner),
      description: Type.Optional(description),
      isProtected: Type.Optional(Type.Boolean()),
    }),
    output: Type.Object({ image }),
    failures: ['unknown-image'],
  }),
  removeImage: operation({
    summary: 'Removes an image that is not protected and that no setup and no deployment under way names',
    access: 'admin',
    rest: { method: 'DELETE', path: '/images/{reference}' },
    input: Type.Object({ reference: imageReference }),
    output: Type.Object({}),
    failures: ['unknown-image', 'in-use'],
  }),
  collectImages: operation({
    summary: 'Removes from the library what no image names: contents without a name, and what dead imports left',
    access: 'admin',
    rest: { method: 'POST', path: '/images/collect' },
    input: Type.Object({ dryRun: Type.Optional(Type.Boolean({ description: 'Only says what would go' })) }),
    output: Type.Object({
      images: Type.Array(collected),
      abandoned: Type.Integer({ minimum: 0, description: 'Imports that had not ended' }),
      freedBytes: bytes,
    }),
    failures: ['wrong-state'],
  }),
}
