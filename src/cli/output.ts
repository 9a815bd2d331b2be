// How the CLI shows things: aligned columns for people, JSON for programs. Texts from outside are stripped of control
// characters, so that no machine on the network can write to somebody's terminal.
import stringWidth from 'string-width'

export type Format = 'table' | 'json'

/** What a cell may be; undefined and empty show as a dash. */
export type Cell = string | number | boolean | undefined

/** `text` on one line, without control characters. */
export function plain(text: string): string {
  return text.replace(/\p{Cc}+/gu, ' ')
}

/** Rows under their headings, columns aligned by what a terminal shows. Numbers stand to the right. */
export function table(headings: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const cells = rows.map((row) => row.map((cell) => (cell === undefined || cell === '' ? '-' : plain(String(cell)))))
  const widths = headings.map((heading, i) =>
    Math.max(stringWidth(heading), ...cells.map((row) => stringWidth(row[i] ?? ''))),
  )
  const right = headings.map((_, i) => rows.length > 0 && rows.every((row) => typeof row[i] === 'number'))
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => {
        const space = ' '.repeat(Math.max(0, (widths[i] ?? 0) - stringWidth(cell)))
        return right[i] ? space + cell : cell + space
      })
      .join('  ')
      .trimEnd()
  return [line(headings.map((heading) => heading.toUpperCase())), ...cells.map(line)].join('\n')
}

/** Bytes in the largest unit that keeps them readable: 1.5 GiB. */
export function size(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}

/** Seconds as people say them: 8.2 s, 3 min 20 s, 2 h 5 min. */
export function duration(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`
}

/** Local time of day with the day where it is not today. */
export function moment(dateTime: string): string {
  const at = new Date(dateTime)
  const pad = (n: number, width = 2): string => String(n).padStart(width, '0')
  const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`
  const time = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}.${pad(at.getMilliseconds(), 3)}`
  return new Date().toDateString() === at.toDateString() ? time : `${day} ${time}`
}
