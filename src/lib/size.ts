// Sizes, rates and times as people write them: 20GiB, 500 GB, 50MB/s, 100M, 30d.

const units: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
}

/** Bytes of a whole number with a unit, or without one; undefined when it is not a size. */
export function parseSize(text: string): number | undefined {
  const parts = /^(\d{1,16})(?:\s*([A-Za-z]+))?$/.exec(text)
  const bytes = Number(parts?.[1]) * (units[parts?.[2] ?? ''] ?? Number.NaN)
  return Number.isSafeInteger(bytes) ? bytes : undefined
}

/** Bytes a second: 50MB/s, 100MiB/s, 50M, 1.5G, a number of bytes. Undefined when it is not a rate. */
export function parseRate(text: string): number | undefined {
  const [, digits, unit = ''] = /^(\d{1,16}(?:\.\d{1,3})?)\s*([A-Za-z]*?)(?:\/s)?$/.exec(text) ?? []
  const bytes = Math.floor(
    Number(digits) * (units[['k', 'M', 'G', 'T'].includes(unit) ? `${unit}B` : unit] ?? Number.NaN),
  )
  return Number.isSafeInteger(bytes) ? bytes : undefined
}

const timeUnits: Readonly<Record<string, number>> = { ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 }

/** Milliseconds of a time with its unit: 90s, 30min, 12h, 30d. Undefined when it is not one. */
export function parseTime(text: string): number | undefined {
  const [, digits, unit = ''] = /^(\d{1,12})\s*(ms|s|min|h|d)$/.exec(text.trim()) ?? []
  const ms = Number(digits) * (timeUnits[unit] ?? Number.NaN)
  return Number.isSafeInteger(ms) ? ms : undefined
}
