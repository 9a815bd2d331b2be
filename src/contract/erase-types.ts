// What operations say of erasing disks.
import { type Static, Type } from 'typebox'
import { eraseFinishes, erasingMethods } from '../model/erase.ts'
import { bytes, deployment, id, label, stepTime, words } from './types.ts'

/** Which disks, how, and what the machine does afterwards. */
export const eraseOrder = {
  method: words(erasingMethods),
  disk: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 190,
      description: "A disk's path, serial or WWN as the inventory has it, or `all`; the only disk if not said",
    }),
  ),
  finish: Type.Optional(words(eraseFinishes, { description: 'What the machine does then; `poweroff` if not said' })),
}

/** What the agent has erased, as it says at the end. */
export const eraseReport = Type.Object(
  {
    disks: Type.Array(
      Type.Object({
        path: label,
        sizeBytes: bytes,
        serial: Type.Optional(label),
        wwn: Type.Optional(label),
        text: Type.String({ maxLength: 4000, description: 'By which means, and what was read before and after' }),
        seconds: Type.Number({ minimum: 0 }),
      }),
      { minItems: 1, maxItems: 256 },
    ),
    steps: Type.Array(stepTime, { maxItems: 300 }),
  },
  { title: 'EraseReport' },
)
export type EraseReport = Static<typeof eraseReport>

/** One host's disks being erased. */
export const erasure = Type.Object(
  { ...eraseOrder, report: Type.Optional(eraseReport), deployment },
  { title: 'Erasure' },
)
export type ErasureView = Static<typeof erasure>

/** What the agent is to erase. */
export const eraseWork = Type.Object(
  { deployment: id, ...eraseOrder, finish: words(eraseFinishes) },
  { title: 'EraseWork' },
)
export type EraseWork = Static<typeof eraseWork>
