import { expect, test } from 'vitest'
import { parseXml } from '../../src/lib/xml.ts'
import { type PlottedRun, plotRuns } from './plot.ts'

function run(method: PlottedRun['method'], n: number, last_s: number | null): PlottedRun {
  return { method, n, mib: 96, limit_s: 52.6, last_s }
}

test('a plot has a line for each method, a dashed one for the limit, and a point for each number of nodes that ended', () => {
  const runs = [run('swarm', 1, 53), run('swarm', 16, 54), run('http', 1, 53), run('http', 16, null)]
  const svg = parseXml(plotRuns(runs))
  const lines = svg.children.filter(({ name }) => name === 'polyline')
  const pointsOf = (line: number) =>
    lines[line]?.attributes.find(({ name }) => name === 'points')?.value.split(' ').length
  expect(lines).toHaveLength(3)
  expect([pointsOf(0), pointsOf(1), pointsOf(2)]).toEqual([2, 2, 1])
  const words = svg.children.filter(({ name }) => name === 'text').map(({ text }) => text)
  expect(words).toEqual(expect.arrayContaining(['limit', 'swarm', 'http', '16']))
})

test('the median of several runs is drawn', () => {
  const alone = plotRuns([run('swarm', 4, 60)])
  expect(plotRuns([run('swarm', 4, 90), run('swarm', 4, 60), run('swarm', 4, 55)])).toBe(alone)
})

test('nothing cannot be plotted', () => {
  expect(() => plotRuns([])).toThrow('no runs')
})
