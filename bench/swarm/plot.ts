// A plot of runs in the manner of the paper's figure 5: the rate at which each node got the image against the number of
// nodes, a line a method, and the limit. SVG by hand: axes, lines, and a legend are all that it takes.
import { type Markup, xml } from '../../src/lib/xml.ts'
import { mebibyte, median } from './limit.ts'
import type { RunResult } from './run.ts'

export type PlottedRun = Pick<RunResult, 'method' | 'n' | 'mib' | 'limit_s' | 'last_s'>

const [width, height] = [720, 440]
const frame = { left: 64, right: 560, top: 40, bottom: 390 }
// Told apart also by who sees no colours: their lightness differs (Okabe and Ito).
const colours = ['#d55e00', '#0072b2', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000']

type Point = { readonly n: number; readonly rate: number }

/** MB/s at which the last node got the image, the median of the runs; a method whose runs did not end has no point. */
function pointsOf(runs: readonly PlottedRun[], secondsOf: (run: PlottedRun) => number | null): Point[] {
  const counts = [...new Set(runs.map(({ n }) => n))].sort((a, b) => a - b)
  return counts.flatMap((n) => {
    const same = runs.filter((run) => run.n === n)
    const seconds = median(same.map(secondsOf))
    const mib = same[0]?.mib ?? 0
    return seconds === null ? [] : [{ n, rate: (mib * mebibyte) / 1e6 / seconds }]
  })
}

/** Throws an Error when there is nothing to plot. */
export function plotRuns(runs: readonly PlottedRun[]): string {
  if (runs.length === 0) throw new Error('there are no runs to plot')
  const methods = [...new Set(runs.map(({ method }) => method))]
  const limit = pointsOf(runs, ({ limit_s }) => limit_s)
  const lines = methods.map((method) =>
    pointsOf(
      runs.filter((run) => run.method === method),
      ({ last_s }) => last_s,
    ),
  )
  const counts = limit.map(({ n }) => n)
  const most = Math.max(...limit.map(({ rate }) => rate), ...lines.flat().map(({ rate }) => rate)) * 1.1
  const [first, final] = [Math.log2(Math.min(...counts)), Math.log2(Math.max(...counts))]
  const x = (n: number) =>
    round(frame.left + 20 + ((Math.log2(n) - first) / (final - first || 1)) * (frame.right - frame.left - 40))
  const y = (rate: number) => round(frame.bottom - (rate / most) * (frame.bottom - frame.top))
  const at = (points: readonly Point[]) => points.map(({ n, rate }) => `${x(n)},${y(rate)}`).join(' ')
  const { left, right, top, bottom } = frame
  const document = xml`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13">
<title>Rate at the last node against the number of nodes, with the limit</title>
<rect width="${width}" height="${height}" fill="#fff"/>
<text x="${left}" y="22" font-size="15">Rate at the last node, ${sizesOf(runs)} MiB</text>
${ticks(most).map(
  (rate) => xml`<line x1="${left}" x2="${right}" y1="${y(rate)}" y2="${y(rate)}" stroke="#ddd"/>
<text x="${left - 8}" y="${y(rate) + 4}" text-anchor="end">${rate}</text>
`,
)}${counts.map((n) => xml`<text x="${x(n)}" y="${bottom + 18}" text-anchor="middle">${n}</text>\n`)}
<path d="M${left} ${top}V${bottom}H${right}" fill="none" stroke="#000"/>
<text x="${(left + right) / 2}" y="${bottom + 38}" text-anchor="middle">nodes</text>
<text transform="translate(18 ${(top + bottom) / 2}) rotate(-90)" text-anchor="middle">MB/s per node</text>
<polyline points="${at(limit)}" fill="none" stroke="#000" stroke-dasharray="6 4"/>
${legend('limit', '#000', 0, true)}${methods.map((method, index) => {
  const colour = colours[index % colours.length] ?? '#000'
  const points = lines[index] ?? []
  return xml`<polyline points="${at(points)}" fill="none" stroke="${colour}" stroke-width="2"/>
${points.map(({ n, rate }) => xml`<circle cx="${x(n)}" cy="${y(rate)}" r="3.5" fill="${colour}"/>\n`)}${legend(method, colour, index + 1, false)}`
})}</svg>
`
  return document.toString()
}

function legend(name: string, colour: string, line: number, isDashed: boolean): Markup {
  const y = frame.top + 16 + line * 22
  const dashes = isDashed ? xml` stroke-dasharray="6 4"` : ''
  return xml`<line x1="${frame.right + 16}" x2="${frame.right + 44}" y1="${y}" y2="${y}" stroke="${colour}" stroke-width="2"${dashes}/>
<text x="${frame.right + 52}" y="${y + 4}">${name}</text>
`
}

function sizesOf(runs: readonly PlottedRun[]): string {
  return [...new Set(runs.map(({ mib }) => mib))].join(', ')
}

/** Four to ten round numbers from 0 to below `most`. */
function ticks(most: number): number[] {
  const power = 10 ** Math.floor(Math.log10(most))
  const step = [power / 5, power / 2, power, power * 2].find((step) => most / step <= 8) ?? power * 2
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, index) => Number((index * step).toPrecision(6)))
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}
