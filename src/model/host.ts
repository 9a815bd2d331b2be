// A host: one machine, with the words that describe its disks and loaders, and the rule that picks the disk a setup names.

/** Which loader a host's firmware is given; `auto` goes by what the firmware says it is. */
export const loaders = ['auto', 'pxelinux', 'ipxe', 'grub'] as const
export type Loader = (typeof loaders)[number]

/** In which order hosts are listed; `place` is site, rack, name. */
export const hostSorts = ['name', 'place', 'newest'] as const
export type HostSort = (typeof hostSorts)[number]

export const diskProperties = ['size', 'model', 'serial', 'wwn', 'path', 'transport', 'rotational'] as const
export type DiskProperty = (typeof diskProperties)[number]

export const diskHintOperators = ['eq', 'ne', 'lt', 'le', 'gt', 'ge', 'contains'] as const
export type DiskHintOperator = (typeof diskHintOperators)[number]

/** One condition on a disk. Sizes are bytes as a decimal string; text compares without case. */
export type DiskHint = {
  readonly property: DiskProperty
  readonly operator: DiskHintOperator
  readonly value: string
}

/** What an inventory says of one disk. */
export type DiskIdentity = {
  readonly path: string
  readonly sizeBytes: number
  readonly rotational: boolean
  readonly transport?: string | undefined
  readonly model?: string | undefined
  readonly serial?: string | undefined
  readonly wwn?: string | undefined
  readonly byPath?: string | undefined
}

/** True when `disk` meets every hint. No hints: every disk does. */
export function diskFits(disk: DiskIdentity, hints: readonly DiskHint[]): boolean {
  return hints.every((hint) => meets(disk, hint))
}

function meets(disk: DiskIdentity, hint: DiskHint): boolean {
  if (hint.property === 'size') return compare(disk.sizeBytes, Number(hint.value), hint.operator)
  if (hint.property === 'path') {
    const names = [disk.path, disk.byPath].filter((name) => name !== undefined)
    // A disk has several names: it is "not X" only if none of them is X.
    return hint.operator === 'ne'
      ? names.every((name) => matches(name, hint.value, 'ne'))
      : names.some((name) => matches(name, hint.value, hint.operator))
  }
  const value = hint.property === 'rotational' ? String(disk.rotational) : disk[hint.property]
  return value !== undefined && matches(value, hint.value, hint.operator)
}

function compare(have: number, want: number, operator: DiskHintOperator): boolean {
  switch (operator) {
    case 'eq':
      return have === want
    case 'ne':
      return have !== want
    case 'lt':
      return have < want
    case 'le':
      return have <= want
    case 'gt':
      return have > want
    case 'ge':
      return have >= want
    case 'contains':
      return false
  }
}

function matches(have: string, want: string, operator: DiskHintOperator): boolean {
  const [a, b] = [have.trim().toLowerCase(), want.trim().toLowerCase()]
  if (operator === 'contains') return a.includes(b)
  if (operator === 'ne') return a !== b
  return operator === 'eq' && a === b
}
