// Reading the elements of a setup document that its schema has already checked: children, attributes, sizes, durations.
import type { XmlElement } from 'libxml2-wasm'
import { parseSize } from '../lib/size.ts'
import { Failure } from './failure.ts'
import { setupNamespace } from './setup-schema.ts'

/** A document that is refused: `sentence` names the element or attribute at fault and what it should be. */
export function invalid(line: number, sentence: string): Failure {
  return new Failure('setup-invalid', `line ${line}: ${sentence}`, { at: `line ${line}` })
}

export function children(element: XmlElement, name: string): XmlElement[] {
  // An XPath of a `*`-like step gives elements only.
  return element.find(`s:${name}`, { s: setupNamespace }) as XmlElement[]
}

export function child(element: XmlElement, name: string): XmlElement | undefined {
  return children(element, name)[0]
}

export function attribute(element: XmlElement, name: string): string | undefined {
  return element.attr(name)?.content
}

/** Bytes of a size in an attribute. */
export function readSize(element: XmlElement, name: string, text: string): number {
  const bytes = parseSize(text)
  if (bytes !== undefined) return bytes
  throw invalid(
    element.line,
    `attribute \`${name}\`: \`${text}\` is not a size such as 20GiB, 500GB or a number of bytes`,
  )
}

export function durationMs(text: string): number {
  const [, count, unit] = /^(\d+)(s|min|h)$/.exec(text.trim()) ?? []
  return Number(count) * { s: 1000, min: 60_000, h: 3_600_000 }[unit as 's' | 'min' | 'h']
}
