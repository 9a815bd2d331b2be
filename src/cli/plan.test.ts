import { expect, test } from 'vitest'
import type { PlanHostView, RolloutPlanView } from '../contract/rollout-types.ts'
import { planInWords } from './plan.ts'
import { changesInWords } from './setups.ts'

const sda = { path: '/dev/sda', sizeBytes: 2 ** 39, sectorBytes: 512, rotational: false, model: 'FAST 1', serial: 'A1' }
const host = (name: string, more: Partial<PlanHostView> = {}): PlanHostView => ({
  host: name,
  disks: [],
  wave: 1,
  refusals: [],
  warnings: [],
  ...more,
})
const planOf = (hosts: PlanHostView[], more: Partial<RolloutPlanView> = {}): RolloutPlanView => ({
  setup: 'node:3',
  images: ['debian:12'],
  sizes: [{ reference: 'debian:12', sizeBytes: 2 ** 30, storedBytes: 2 ** 28 }],
  canStart: true,
  nodeset: `n[1-${hosts.length}]`,
  needsConfirm: false,
  estimate: { basis: 'unknown: nothing has ended well' },
  waves: [{ wave: 1, nodeset: `n[1-${hosts.length}]`, hosts: hosts.length }],
  excluded: [],
  warnings: [],
  hosts,
  ...more,
})
const inventoryAt = '2026-01-02T03:04:05.000Z'

test('a plan shows each disk, and tells once what is the same of several hosts', () => {
  const unseen = { warnings: ['its disks were never seen: its agent decides'] }
  const hosts = [
    host('n1', { inventoryAt, disks: [{ name: 'system', disk: sda, standing: 'approved' }] }),
    host('n2', {
      inventoryAt,
      disks: [{ name: 'system', disk: { ...sda, serial: 'Z9\u001b[2J' }, standing: 'new' }],
      refusals: [{ code: 'disk-changed', message: ['disk `system` would be another'] }],
    }),
    host('n3', unseen),
    host('n4', unseen),
  ]
  const warnings = ['the manifest of image debian:12 cannot be read']
  const text = planInWords(planOf(hosts, { canStart: false, warnings }))
  const lines = text.split('\n')
  expect(lines.slice(0, 3)).toEqual([
    'plan of node:3 with debian:12 (1.0 GiB on disk, 256 MiB to fetch)',
    'on 4 hosts: n[1-4]',
    'time: unknown: nothing has ended well',
  ])
  expect(lines[4]).toMatch(/^HOST {2}NAME {4}TAKES {14}IDENTITY {15}PROVEN BEFORE {4}SEEN/)
  expect(lines[5]).toMatch(/^n1 {4}system {2}\/dev\/sda, 512 GiB {2}FAST 1, serial A1 +yes +2026-01-0/)
  expect(lines[6]).toMatch(/^n2 .*serial Z9 \[2J +NO, another was/)
  expect(lines.slice(8)).toEqual([
    'n[1-4]: holds nothing that a deployment has proven',
    'note: the manifest of image debian:12 cannot be read',
    'n[3-4]: note: its disks were never seen: its agent decides',
    'n2: refused: disk `system` would be another',
    '    Make sure that it is the right disk; then deploy once with --accept-new-disk (acceptNewDisk). [disk-changed]',
    'it cannot start: 1 of 4 hosts are refused',
  ])
})

test('a plan says what goes when, who is left out, what is overwritten and what must be typed', () => {
  const holds = { deployment: 7, setup: 'old:1', images: ['suse:9'], provenAt: '2026-01-02T03:04:05.000Z' }
  const text = planInWords(
    planOf([host('n1', { holds, wave: 0 }), host('n2', { holds })], {
      needsConfirm: true,
      estimate: { hostSeconds: 60, seconds: 120, basis: 'the median of 3 deployments' },
      waves: [
        { wave: 0, nodeset: 'n1', hosts: 1 },
        { wave: 1, nodeset: 'n2', hosts: 1 },
      ],
      excluded: [{ host: 'n9', reason: 'protected', text: 'protected: the login node' }],
    }),
  )
  expect(text.split('\n').slice(2)).toEqual([
    'time: about 2 min 0 s in all, 1 min 0 s a host; the median of 3 deployments',
    'canary: n1 (1)',
    'wave 1: n2 (1)',
    expect.stringMatching(/^n\[1-2\]: holds old:1 with suse:9, of deployment 7 on 2026-01-02/),
    'n9: left out: protected: the login node',
    'it can start, on 2 hosts, with --confirm 2',
  ])
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
