import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { placesOf } from './layout.ts'
import { type DiskTable, type PlanDisk, type PlanImage, planLayout } from './layout-plan.ts'
import { parseSetup } from './setup.ts'

const folder = join(import.meta.dirname, '../../examples')
const names = (await readdir(folder)).filter((name) => name.endsWith('.xml'))
const GiB = 1024 ** 3

/** What side-by-side.xml leaves behind, for the example that keeps it. */
const table: DiskTable = {
  kind: 'gpt',
  usableOffset: 1024 ** 2,
  usableEnd: 480 * GiB,
  partitions: [3, 4, 5].map((number) => ({ number, offset: number * 50 * GiB, length: 50 * GiB, type: 'linux' })),
}

test.each(names)('the example %s is a setup that fits a machine with disks of 500 GB', async (name) => {
  const setup = parseSetup(await readFile(join(folder, name), 'utf8'))
  expect(setup.name).toBe(name.replace('.xml', ''))
  const disk: PlanDisk = { path: '/dev/sda', sizeBytes: 500e9, sectorBytes: 512, table }
  const images = new Map<string, PlanImage>()
  for (const { place, content } of placesOf(setup.layout)) {
    const image = 'image' in content ? content.image : undefined
    const kind = content.kind === 'filesystem' ? 'tar' : /:\d+$/.test(place) ? 'partition' : 'disk'
    if (image !== undefined) images.set(image, { sizeBytes: 100e6, sectorBytes: 512, kind })
  }
  const disks = new Map(setup.layout.disks.map((one) => [one.name, disk]))
  const { sizes } = planLayout(setup.layout, disks, images)
  expect([...sizes.keys()].sort()).toEqual(expect.arrayContaining(placesOf(setup.layout).map(({ place }) => place)))
})

test('every example says what it is for', async () => {
  for (const name of names) {
    const text = await readFile(join(folder, name), 'utf8')
    expect(text, name).toMatch(/<!-- [\s\S]{40,}? -->[\s\S]*<description>/)
  }
})
