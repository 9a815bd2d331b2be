// What operations say of captures and of what was found in a captured system.
import { type Static, Type } from 'typebox'
import { captureFinishes } from '../model/capture.ts'
import type { Caller } from './operation.ts'
import { bytes, deployment, diskHint, hygiene, id, imageReference, label, sha256, stepTime, words } from './types.ts'

const partition = Type.Integer({ minimum: 1, maximum: 128, description: 'Its number in the partition table' })
const disk = Type.String({
  minLength: 1,
  maxLength: 190,
  description: "A disk's path, serial or WWN as the inventory has it, or `system`: the only disk",
})

const hints = Type.Array(diskHint, { maxItems: 32, description: 'As in a setup; all must be met' })

/** Which disk, what is done to its copy, and what the machine does afterwards. */
export const captureOrder = {
  disk: Type.Optional(disk),
  hints: Type.Optional(hints),
  partition: Type.Optional(partition),
  repair: Type.Optional(
    Type.Boolean({ description: 'Mends in the image what belongs to one machine; its disk stays as it is' }),
  ),
  finish: Type.Optional(words(captureFinishes, { description: 'What the machine does then; `reboot` if not said' })),
}

/** What the agent has read, as it says at the end. */
export const captureReport = Type.Object(
  {
    diskPath: label,
    diskSerial: Type.Optional(label),
    diskWwn: Type.Optional(label),
    diskSizeBytes: bytes,
    bytesRead: bytes,
    bytesSent: bytes,
    bytesFree: Type.Optional(
      Type.Integer({ minimum: 0, description: 'Not read, because its file systems call it free' }),
    ),
    hygiene,
    steps: Type.Array(stepTime, { maxItems: 64 }),
  },
  { title: 'CaptureReport' },
)
export type CaptureReport = Static<typeof captureReport>

export const capture = Type.Object(
  {
    image: imageReference,
    ...captureOrder,
    hints,
    sizeBytes: Type.Optional(Type.Integer({ minimum: 0, description: 'Of the disk or partition' })),
    frames: Type.Integer({ minimum: 0, description: 'Frames of 4 MiB that the service has, durably' }),
    storedBytes: bytes,
    digest: Type.Optional(sha256),
    report: Type.Optional(captureReport),
    deployment,
  },
  { title: 'Capture' },
)
export type CaptureView = Static<typeof capture>

/** What the agent is to capture. */
export const captureWork = Type.Object(
  { deployment: id, image: imageReference, ...captureOrder, hints, finish: words(captureFinishes) },
  { title: 'CaptureWork' },
)
export type CaptureWork = Static<typeof captureWork>

/**
 * Where a frame goes: the one route of the Service Port that is no operation, because frames are bytes. The answer to
 * `PUT` is JSON: what TakeFrame gives, or a failure as REST has it.
 */
export function framePath(deployment: number | string, frame: number | string): string {
  return `/service/v1/captures/${deployment}/frames/${frame}`
}

/** What a request says of its frame; `zeroFrames` stands for all of them and has no body. */
export const frameHeaders = {
  sha256: 'x-hades-sha256',
  rawSha256: 'x-hades-raw-sha256',
  zeroFrames: 'x-hades-zero-frames',
} as const

/** One request: the frame as it lies in image.zst, or a run of frames that are zeros and need no bytes. */
export type FrameUpload = { readonly deployment: number; readonly frame: number } & (
  | {
      readonly kind: 'data'
      /** Of the body, and of the disk bytes that it inflates to; lower-case hex. */
      readonly sha256: string
      readonly rawSha256: string
      /** Reads the body, which is not read before: who is turned away, or must wait, holds none of our memory. */
      readonly read: (bytesMax: number) => Promise<Buffer>
    }
  | { readonly kind: 'zeros'; readonly count: number }
)

/** Takes one upload whole, or throws a Failure and takes nothing. */
export type TakeFrame = (upload: FrameUpload, caller: Caller) => Promise<{ readonly nextFrame: number }>
