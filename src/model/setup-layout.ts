// The layout in a setup document: disks with hints, tables and partitions, arrays, volume groups. The schema has checked
// every word before these functions see it.
import type { XmlElement } from 'libxml2-wasm'
import type { DiskHint, DiskHintOperator, DiskProperty } from './host.ts'
import type {
  Content,
  FileSystemType,
  Layout,
  LayoutArray,
  LayoutDisk,
  LayoutGroup,
  Partition,
  RaidLevel,
  Size,
  TableKind,
} from './layout.ts'
import { checkLayout } from './layout-rules.ts'
import { attribute, child, children, invalid, readSize } from './setup-element.ts'

/**
 * Reads the layout of a setup and refuses what makes no sense, and notes the line of each place. Throws Failure
 * `setup-invalid` with the line.
 */
export function readLayout(root: XmlElement, lines: Lines): Layout {
  const layout = {
    disks: children(root, 'disk').map((disk) => readDisk(disk, lines)),
    arrays: children(root, 'raid').map((raid) => readArray(raid, lines)),
    groups: children(root, 'volume-group').map((group) => readGroup(group, lines)),
  }
  const problem = checkLayout(layout)
  if (problem !== undefined) throw invalid(lines.get(problem.place) ?? root.line, problem.sentence)
  return layout
}

type Lines = Map<string, number>

function nameOf(element: XmlElement): string {
  return attribute(element, 'name') ?? 'system'
}

/** The line of the first of a name: a second one is what the rules complain of, at its own line. */
function note(lines: Lines, place: string, element: XmlElement): void {
  lines.set(place, element.line)
}

function readDisk(element: XmlElement, lines: Lines): LayoutDisk {
  const name = nameOf(element)
  note(lines, name, element)
  const table = child(element, 'table')
  const disk = { name, hints: children(element, 'hint').map(readHint), erase: eraseOf(element) }
  if (table === undefined) return { ...disk, partitions: [], content: readContent(element) }
  let number = 0
  const partitions = children(table, 'partition').map((partition) => {
    number = Number(attribute(partition, 'number') ?? number + 1)
    note(lines, `${name}:${number}`, partition)
    return readPartition(partition, number)
  })
  return { ...disk, table: attribute(table, 'type') as TableKind, partitions }
}

function eraseOf(element: XmlElement): LayoutDisk['erase'] {
  return (attribute(element, 'erase') ?? 'none') as LayoutDisk['erase']
}

function readPartition(element: XmlElement, number: number): Partition {
  const start = attribute(element, 'start')
  const uuid = attribute(element, 'uuid')?.toLowerCase()
  const label = attribute(element, 'label')
  return {
    number,
    ...sizeOf(element),
    ...(start === undefined ? {} : { startBytes: readSize(element, 'start', start) }),
    type: (attribute(element, 'type') ?? 'linux').toLowerCase(),
    ...(label === undefined ? {} : { label }),
    ...(uuid === undefined ? {} : { uuid }),
    content: readContent(element),
  }
}

function readArray(element: XmlElement, lines: Lines): LayoutArray {
  const name = nameOf(element)
  note(lines, name, element)
  return { name, level: attribute(element, 'level') as RaidLevel, content: readContent(element) }
}

function readGroup(element: XmlElement, lines: Lines): LayoutGroup {
  const name = nameOf(element)
  note(lines, name, element)
  const volumes = children(element, 'volume').map((volume) => {
    const volumeName = nameOf(volume)
    note(lines, `${name}/${volumeName}`, volume)
    return { name: volumeName, ...sizeOf(volume), content: readContent(volume) }
  })
  return { name, volumes }
}

function sizeOf(element: XmlElement): Size {
  const text = attribute(element, 'size')?.trim()
  if (text === undefined || text === 'grow') return {}
  if (text.endsWith('%')) return { sizePercent: Number(text.slice(0, -1)) }
  return { sizeBytes: readSize(element, 'size', text) }
}

function readContent(element: XmlElement): Content {
  const image = child(element, 'image')
  if (image !== undefined) return { kind: 'image', image: image.content.trim() }
  const filesystem = child(element, 'filesystem')
  if (filesystem !== undefined) return readFileSystem(filesystem)
  const swap = child(element, 'swap')
  if (swap !== undefined) return { kind: 'swap', ...given(swap, ['label', 'uuid']) }
  const member = child(element, 'member')
  if (member !== undefined) return { kind: 'member', of: attribute(member, 'of') ?? '' }
  return { kind: child(element, 'keep') === undefined ? 'empty' : 'keep' }
}

function readFileSystem(element: XmlElement): Content {
  const image = child(element, 'image')?.content.trim()
  return {
    kind: 'filesystem',
    filesystem: attribute(element, 'type') as FileSystemType,
    ...given(element, ['label', 'uuid', 'mount', 'options']),
    ...(image === undefined ? {} : { image }),
  }
}

function given<const Name extends string>(element: XmlElement, names: readonly Name[]): { [N in Name]?: string } {
  const pairs = names.flatMap((name) => {
    const value = attribute(element, name)
    return value === undefined ? [] : [[name, name === 'uuid' ? value.toLowerCase() : value]]
  })
  return Object.fromEntries(pairs) as { [N in Name]?: string }
}

function readHint(element: XmlElement): DiskHint {
  const property = attribute(element, 'property') as DiskProperty
  const operator = (attribute(element, 'operator') ?? 'eq') as DiskHintOperator
  const value = (attribute(element, 'value') ?? '').trim()
  const ordered = ['lt', 'le', 'gt', 'ge'].includes(operator)
  if (property === 'size') {
    if (operator === 'contains') throw invalid(element.line, 'attribute `operator`: a size cannot contain something')
    return { property, operator, value: String(readSize(element, 'value', value)) }
  }
  if (ordered) throw invalid(element.line, `attribute \`operator\`: ${operator} is for sizes; use eq, ne or contains`)
  if (property === 'rotational' && !['true', 'false'].includes(value)) {
    throw invalid(element.line, 'attribute `value`: rotational is true or false')
  }
  return { property, operator, value }
}
