import { expect, test } from 'vitest'
import { parseArguments } from './arguments.ts'

test('the line that the measurements are made with is read', () => {
  const words = '--nodes 16 --methods swarm,aria2-paper --mib 96 --mbit 16 --runs 1 --json'.split(' ')
  expect(parseArguments(words)).toMatchObject({
    nodes: [16],
    methods: ['swarm', 'aria2-paper'],
    mib: 96,
    mbit: 16,
    runs: 1,
    asJson: true,
    faults: [],
  })
})

test('several numbers of nodes and several faults are taken', () => {
  const options = parseArguments(['--nodes', '1,2,72', '--fault', 'kill:10%@30%', '--fault', 'late:20%@10s'])
  expect(options.nodes).toEqual([1, 2, 72])
  expect(options.faults.map(({ kind }) => kind)).toEqual(['kill', 'late'])
})

test.each([
  [['--nodes', '0']],
  [['--nodes', '2,,3']],
  [['--nodes', '501']],
  [['--methods', 'rsync']],
  [['--mib', '1.5']],
  [['--mbit', '-1']],
  [['--congestion', 'cubic; reboot']],
  [['--fault', 'explode:1']],
  [['--speed', '1']],
  [['--methods', 'http', '--fault', 'corrupt:1@0s']],
])('%j is refused', (words) => {
  expect(() => parseArguments(words)).toThrow()
})
