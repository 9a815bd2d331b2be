// Each operation is called, with success, on each face, on each database that the projects of vitest bring.
import { afterEach, expect, test } from 'vitest'
import { clientsOf, type EveryFace, everyOperation, openEveryFace, type Success } from '../main/every-face.ts'
import { faces } from '../ports/raw-call.ts'
import { callEveryOperation } from './every-operation.ts'
import { openTestWorld } from './testing.ts'

let open: EveryFace | undefined
afterEach(async () => {
  await open?.close()
  open = undefined
})

/** The task goes on meanwhile, and its answer with it. */
const goesOn = ['publishImage']

test.each(faces)(
  'every operation of the three ports is called by %s and succeeds, once however often one with a key is called',
  async (face) => {
    open = await openEveryFace(await openTestWorld())
    const told: Success[] = []
    const as = clientsOf(open, face, (success) => told.push(success))
    await callEveryOperation({ world: open.world, webhookUrl: open.webhookUrl, as })
    const called = new Set(told.map(({ port, name }) => `${port}.${name}`))
    expect([...called].sort()).toEqual(everyOperation.map(({ port, name }) => `${port.name}.${name}`).sort())
    for (const { name, output, again } of told) {
      if (again !== undefined && !goesOn.includes(name)) expect(again, name).toEqual(output)
    }
    expect(open.unrecorded).toEqual([])
    expect(open.errors).toEqual([])
  },
  300_000,
)
