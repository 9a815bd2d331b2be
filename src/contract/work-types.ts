// What the service tells the agent to do: the layout of the host's disks with the images, and what comes after.
import { type Static, Type } from 'typebox'
import { finalActions } from '../model/deployment.ts'
import { captureWork } from './capture-types.ts'
import { eraseWork } from './erase-types.ts'
import { layout, postInstall } from './layout-types.ts'
import {
  approvedDisk,
  hostName,
  id,
  imageReference,
  label,
  networkInterface,
  redeployMode,
  sha256,
  transferOrder,
  words,
} from './types.ts'

/** One image of the setup, and how it is fetched. */
export const imageOrder = Type.Object(
  {
    reference: imageReference,
    digest: sha256,
    signature: Type.Optional(Type.String({ maxLength: 190, description: 'Ed25519, of the digest, by this service' })),
    manifestUrl: label,
    imageUrl: label,
    transfer: transferOrder,
  },
  { title: 'ImageOrder' },
)
export type ImageOrder = Static<typeof imageOrder>

export const work = Type.Object(
  {
    deployment: id,
    host: hostName,
    interfaces: Type.Array(networkInterface, { maxItems: 32, description: "What HaDeS knows of the host's addresses" }),
    layout,
    images: Type.Array(imageOrder, { minItems: 1, maxItems: 64, description: 'Every image of the layout, once' }),
    redeploy: redeployMode,
    postInstall: Type.Optional(postInstall),
    approvedDisks: Type.Optional(
      Type.Array(approvedDisk, {
        // An empty list and none are the same to some readers of XML.
        minItems: 1,
        maxItems: 64,
        description: 'The disks of this host that may be overwritten; absent: any that the layout chooses',
      }),
    ),
    finish: words(finalActions),
  },
  { title: 'Work' },
)
export type Work = Static<typeof work>

/** What the agent is to do now. `work` is there when `action` is `deploy`, and so on. */
export const instructions = Type.Object(
  {
    action: words(['deploy', 'capture', 'erase', 'stop']),
    reason: Type.Optional(Type.String({ maxLength: 4000 })),
    reportEveryMs: Type.Integer({ minimum: 100, maximum: 60_000 }),
    work: Type.Optional(work),
    capture: Type.Optional(captureWork),
    erase: Type.Optional(eraseWork),
  },
  { title: 'Instructions' },
)
export type Instructions = Static<typeof instructions>
