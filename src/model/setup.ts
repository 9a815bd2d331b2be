// The setup document: what a host is to become, parsed from XML and checked against our schema. Document types, entities
// and processing instructions are refused before any parser that understands them sees the text.
import { type ErrorDetail, ParseOption, XmlDocument, type XmlElement, XmlLibError, XsdValidator } from 'libxml2-wasm'
import { SaxesParser } from 'saxes'
import { parseRate } from '../lib/size.ts'
import type { BootTarget } from './boot.ts'
import type { FinalAction, GivenDeadlines } from './deployment.ts'
import type { Layout, RedeployMode } from './layout.ts'
import type { PostInstall } from './post-install.ts'
import { problemOfPostInstall } from './post-install-rules.ts'
import { attribute, child, durationMs, invalid } from './setup-element.ts'
import { readLayout } from './setup-layout.ts'
import { readPostInstall } from './setup-post-install.ts'
import { setupNamespace, setupSchema } from './setup-schema.ts'
import type { TransferEngine } from './swarm.ts'
import { bytesPerSecondMin, defaultTransferPolicy, lingerSecondsMax, type TransferPolicy } from './transfer-policy.ts'

/** How the new system is seen to run. */
export type Probe =
  | { readonly kind: 'dhcp' }
  | { readonly kind: 'tcp'; readonly port: number; readonly expect: string | undefined }
  | { readonly kind: 'none' }

export type Setup = {
  readonly name: string
  readonly layout: Layout
  readonly postInstall: PostInstall | undefined
  readonly redeploy: RedeployMode
  readonly transfer: TransferPolicy
  readonly finish: { readonly action: FinalAction; readonly target: BootTarget }
  readonly probe: Probe
  readonly deadlines: GivenDeadlines
}

/** What the engine needs to know of any work on a host. */
export type Course = Pick<Setup, 'finish' | 'probe' | 'deadlines'>

/** What holds where nothing is said: the times of model/deployment.ts, and three attempts. */
export const defaultDeadlines: GivenDeadlines = {
  bootMs: undefined,
  deployMs: undefined,
  observeMs: undefined,
  attempts: 3,
}

/** The longest setup document that is read, in characters. */
export const setupLengthMax = 262_144

/** The lines of the document by what is there: a place of the layout, such as `system:2`, `script NAME`, or `finish`. */
export type SetupLines = ReadonlyMap<string, number>

/**
 * Parses and checks a setup document. Throws Failure `setup-invalid` with the line and the element or attribute at fault
 * in its text and, as `at`, `line N`.
 */
export function parseSetup(xml: string): Setup {
  return parseSetupWithLines(xml).setup
}

/** As `parseSetup`, for who has more to say of the document than its schema. */
export function parseSetupWithLines(xml: string): { readonly setup: Setup; readonly lines: SetupLines } {
  if (xml.length > setupLengthMax) throw invalid(1, `the document is longer than ${setupLengthMax} characters`)
  refuseDangerous(xml)
  const options = { option: ParseOption.XML_PARSE_NONET | ParseOption.XML_PARSE_NO_XXE }
  try {
    using document = XmlDocument.fromString(xml, options)
    using schema = XmlDocument.fromString(setupSchema)
    using validator = XsdValidator.fromDoc(schema)
    validator.validate(document)
    const lines = new Map<string, number>()
    return { setup: read(document.root, lines), lines }
  } catch (error) {
    if (!(error instanceof XmlLibError)) throw error
    const details: readonly ErrorDetail[] = error.details
    const [first] = details
    throw invalid(first?.line ?? 1, readable(details.map((detail) => detail.message)))
  }
}

/** libxml2 writes the namespace before every name and a line for each facet; people need neither. */
function readable(messages: readonly string[]): string {
  return [...new Set(messages)]
    .slice(0, 3)
    .map((message) => message.replaceAll(`{${setupNamespace}}`, '').replace(/\s+/g, ' ').trim())
    .join(' ')
}

function refuseDangerous(xml: string): void {
  const parser = new SaxesParser({ xmlns: true })
  let depth = 0
  parser.on('doctype', () => {
    throw invalid(parser.line, 'a document type (DOCTYPE) is not allowed, and with it no entities: remove it')
  })
  parser.on('processinginstruction', ({ target }) => {
    throw invalid(parser.line, `the processing instruction \`${target}\` is not allowed: remove it`)
  })
  parser.on('opentag', () => {
    depth += 1
    if (depth > 16) throw invalid(parser.line, 'elements are nested deeper than any setup needs (16)')
  })
  parser.on('closetag', () => {
    depth -= 1
  })
  parser.on('error', (error) => {
    throw invalid(parser.line, `this is not well-formed XML: ${error.message.replace(/^\d+:\d+: /, '')}`)
  })
  parser.write(xml).close()
}

function read(root: XmlElement, lines: Map<string, number>): Setup {
  const transfer = child(root, 'transfer')
  const layout = readLayout(root, lines)
  const element = child(root, 'post-install')
  const postInstall = readPostInstall(element, lines)
  if (element !== undefined) lines.set('element post-install', element.line)
  // Of images nothing is known here; what they hold is for whoever has their manifests.
  const problem = postInstall && problemOfPostInstall(postInstall, layout, () => undefined)
  if (problem !== undefined) throw invalid(element?.line ?? root.line, problem)
  return {
    name: attribute(root, 'name') ?? '',
    layout,
    postInstall,
    redeploy: ((transfer && attribute(transfer, 'redeploy')) ?? 'full') as RedeployMode,
    transfer: readTransfer(transfer),
    finish: readFinish(child(root, 'finish'), lines),
    probe: readProbe(child(root, 'probe')),
    deadlines: readDeadlines(child(root, 'deadlines')),
  }
}

// The schema has checked every word below before these functions see it.

function readTransfer(element: XmlElement | undefined): TransferPolicy {
  if (!element) return defaultTransferPolicy
  const rate = (name: string): number | undefined => {
    const text = attribute(element, name)?.trim()
    const bytes = text === undefined ? undefined : parseRate(text)
    if (text === undefined || (bytes !== undefined && bytes >= bytesPerSecondMin)) return bytes
    throw invalid(element.line, `attribute \`${name}\`: \`${text}\` is not a rate such as 50MB/s, at least 1kB/s`)
  }
  const linger = attribute(element, 'linger')
  const lingerSeconds = linger === undefined ? defaultTransferPolicy.lingerSeconds : durationMs(linger) / 1000
  if (lingerSeconds > lingerSecondsMax) {
    throw invalid(element.line, `attribute \`linger\`: \`${linger}\` is longer than ${lingerSecondsMax / 3600}h`)
  }
  return {
    engine: (attribute(element, 'engine') ?? defaultTransferPolicy.engine) as TransferEngine,
    lingerSeconds,
    egressBytesPerSecond: rate('egress'),
    ingressBytesPerSecond: rate('ingress'),
  }
}

function readFinish(element: XmlElement | undefined, lines: Map<string, number>): Setup['finish'] {
  if (element) lines.set('finish', element.line)
  return {
    action: ((element && attribute(element, 'action')) ?? 'reboot') as FinalAction,
    target: ((element && attribute(element, 'target')) ?? 'local') as BootTarget,
  }
}

function readProbe(element: XmlElement | undefined): Probe {
  const tcp = element && child(element, 'tcp')
  if (tcp) return { kind: 'tcp', port: Number(attribute(tcp, 'port')), expect: attribute(tcp, 'expect') }
  return element && child(element, 'none') ? { kind: 'none' } : { kind: 'dhcp' }
}

function readDeadlines(element: XmlElement | undefined): GivenDeadlines {
  const duration = (name: string): number | undefined => {
    const text = element && attribute(element, name)
    return text === undefined ? undefined : durationMs(text)
  }
  return {
    bootMs: duration('boot'),
    deployMs: duration('deploy'),
    observeMs: duration('observe'),
    attempts: Number((element && attribute(element, 'attempts')) ?? defaultDeadlines.attempts),
  }
}
