// How the layout of a setup, and what is done after the images, travel to the agent: the types of model/layout.ts and
// model/post-install.ts without unions, which XML Schema cannot say. A union's members all fit these types.
import { type Static, Type } from 'typebox'
import { contentKinds, eraseMethods, fileSystemTypes, raidLevels, tableKinds } from '../model/layout.ts'
import { networkModes, scriptPlaces } from '../model/post-install.ts'
import { bytes, diskHint, imageReference, label, words } from './types.ts'

export const content = Type.Object(
  {
    kind: words(contentKinds),
    image: Type.Optional(imageReference),
    filesystem: Type.Optional(words(fileSystemTypes)),
    label: Type.Optional(label),
    uuid: Type.Optional(label),
    mount: Type.Optional(label),
    options: Type.Optional(label),
    of: Type.Optional(label),
  },
  { title: 'Content', description: 'What lies in a place; which fields there are goes by the kind' },
)
export type ContentView = Static<typeof content>

const size = {
  sizeBytes: Type.Optional(bytes),
  sizePercent: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })),
}

export const layout = Type.Object(
  {
    disks: Type.Array(
      Type.Object({
        name: label,
        hints: Type.Array(diskHint, { maxItems: 32 }),
        erase: words(eraseMethods),
        table: Type.Optional(words(tableKinds)),
        partitions: Type.Array(
          Type.Object({
            number: Type.Integer({ minimum: 1, maximum: 128 }),
            ...size,
            startBytes: Type.Optional(bytes),
            type: label,
            label: Type.Optional(label),
            uuid: Type.Optional(label),
            content,
          }),
          { maxItems: 128 },
        ),
        content: Type.Optional(content),
      }),
      { minItems: 1, maxItems: 16 },
    ),
    arrays: Type.Array(Type.Object({ name: label, level: words(raidLevels), content }), { maxItems: 32 }),
    groups: Type.Array(
      Type.Object({
        name: label,
        volumes: Type.Array(Type.Object({ name: label, ...size, content }), { maxItems: 128 }),
      }),
      { maxItems: 32 },
    ),
  },
  { title: 'Layout' },
)
export type LayoutView = Static<typeof layout>

const document = Type.String({ maxLength: 65_536 })

export const postInstall = Type.Object(
  {
    root: Type.Optional(label),
    hostname: Type.Optional(label),
    network: Type.Object({
      mode: words(networkModes),
      prefixLength: Type.Optional(Type.Integer({ minimum: 1, maximum: 32 })),
      gateway: Type.Optional(label),
      dns: Type.Array(label, { maxItems: 8 }),
    }),
    newHostKeys: Type.Boolean(),
    newMachineId: Type.Boolean(),
    authorizedKeys: Type.Array(Type.Object({ user: label, key: Type.String({ maxLength: 8000 }) }), { maxItems: 64 }),
    writeFstab: Type.Boolean(),
    growLast: Type.Boolean(),
    installBootLoader: Type.Boolean(),
    cloudInit: Type.Optional(
      Type.Object({
        userData: document,
        metaData: Type.Optional(document),
        networkConfig: Type.Optional(document),
      }),
    ),
    scripts: Type.Array(
      Type.Object({
        name: label,
        where: words(scriptPlaces),
        timeoutMs: Type.Integer({ minimum: 1000, maximum: 86_400_000 }),
        text: document,
      }),
      { maxItems: 64 },
    ),
  },
  { title: 'PostInstall', description: 'Templates are filled in already' },
)
