import { expect, test } from 'vitest'
import type { PlanHostView } from '../contract/setup-types.ts'
import { planInWords } from './plan.ts'
import { changesInWords } from './setups.ts'

const sda = { path: '/dev/sda', sizeBytes: 2 ** 39, sectorBytes: 512, rotational: false, model: 'FAST 1', serial: 'A1' }
const host = (name: string, more: Partial<PlanHostView> = {}): PlanHostView => ({
  host: name,
  disks: [],
  refusals: [],
  warnings: [],
  ...more,
})
const inventoryAt = '2026-01-02T03:04:05.000Z'

test('a plan shows each disk, and tells once what is the same of several hosts', () => {
  const unseen = { warnings: ['its disks were never seen: its agent decides'] }
  const text = planInWords({
    setup: 'node:3',
    images: ['debian:12'],
    canStart: false,
    warnings: ['the manifest of image debian:12 cannot be read'],
    hosts: [
      host('n1', { inventoryAt, disks: [{ name: 'system', disk: sda, standing: 'approved' }] }),
      host('n2', {
        inventoryAt,
        disks: [{ name: 'system', disk: { ...sda, serial: 'Z9\u001b[2J' }, standing: 'new' }],
        refusals: [{ code: 'disk-changed', message: ['disk `system` would be another'] }],
      }),
      host('n3', unseen),
      host('n4', unseen),
    ],
  })
  const lines = text.split('\n')
  expect(lines[0]).toBe('plan of node:3 with debian:12')
  expect(lines[2]).toMatch(/^HOST {2}NAME {4}TAKES {14}IDENTITY {15}PROVEN BEFORE {4}SEEN/)
  expect(lines[3]).toMatch(/^n1 {4}system {2}\/dev\/sda, 512 GiB {2}FAST 1, serial A1 +yes +2026-01-0/)
  expect(lines[4]).toMatch(/^n2 .*serial Z9 \[2J +NO, another was/)
  expect(lines.slice(6)).toEqual([
    'note: the manifest of image debian:12 cannot be read',
    'n[3-4]: note: its disks were never seen: its agent decides',
    'n2: refused: disk `system` would be another',
    '    Make sure that it is the right disk; then deploy once with --accept-new-disk (acceptNewDisk). [disk-changed]',
    'it cannot start: 1 of 4 hosts are refused',
  ])
})

test('a plan of hosts that were never seen has no empty table', () => {
  const plan = { setup: 'node:3', images: ['debian:12'], canStart: true, warnings: [], hosts: [host('n1')] }
  expect(planInWords(plan)).toBe('plan of node:3 with debian:12\nit can start, on 1 hosts')
})

test('what differs between setups stands in columns', () => {
  const difference = {
    from: 'a:1',
    to: 'a:2',
    changes: [
      { kind: 'changed', subject: 'system:1', what: 'size', from: '2 GiB', to: '4 GiB' },
      { kind: 'added', subject: 'probe', what: 'port', to: '22' },
      { kind: 'removed', subject: 'script x', what: 'all of it', from: 'where chroot' },
    ] as const,
  }
  expect(changesInWords({ ...difference, changes: [...difference.changes] })).toBe(
    ['~ system:1 size       2 GiB -> 4 GiB', '+ probe port          22', '- script x all of it  where chroot'].join(
      '\n',
    ),
  )
  expect(changesInWords({ from: 'a:1', to: 'a:2', changes: [] })).toBe('a:1 and a:2 bring about the same')
})
