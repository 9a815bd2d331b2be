// Sizes and rates as people write them: 20GiB, 500 GB, 50MB/s, 100M.

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
