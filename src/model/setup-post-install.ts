// What a setup document says of the time after the images: each element that is there is done, what is not there stays.
import type { XmlElement } from 'libxml2-wasm'
import type { CloudInit, NetworkMode, PostInstall, PostInstallScript, ScriptPlace } from './post-install.ts'
import { attribute, child, children, durationMs, invalid } from './setup-element.ts'
import { readTemplate } from './template.ts'

/**
 * Undefined when the setup has no such element: then nothing is done. Notes the line of each script. Throws Failure
 * `setup-invalid` with the line.
 */
export function readPostInstall(element: XmlElement | undefined, lines: Map<string, number>): PostInstall | undefined {
  if (element === undefined) return undefined
  const ssh = child(element, 'ssh')
  const machineId = child(element, 'machine-id')
  const hostnameElement = child(element, 'hostname')
  const hostname = hostnameElement?.content.trim()
  const root = attribute(element, 'root')
  const network = readNetwork(child(element, 'network'))
  if (hostnameElement !== undefined) checkTemplate(hostnameElement, network)
  const cloudInit = readCloudInit(child(element, 'cloud-init'), network)
  return {
    ...(root === undefined ? {} : { root }),
    ...(hostname === undefined ? {} : { hostname: hostname === '' ? '{{host}}' : hostname }),
    network,
    newHostKeys: ssh !== undefined && attribute(ssh, 'host-keys') !== 'keep',
    newMachineId: machineId !== undefined && attribute(machineId, 'mode') !== 'keep',
    authorizedKeys: (ssh === undefined ? [] : children(ssh, 'authorized-key')).map((key) => ({
      user: attribute(key, 'user') ?? 'root',
      key: key.content.trim(),
    })),
    writeFstab: child(element, 'fstab') !== undefined,
    growLast: child(element, 'grow') !== undefined,
    installBootLoader: child(element, 'boot-loader') !== undefined,
    ...(cloudInit === undefined ? {} : { cloudInit }),
    scripts: readScripts(element, network, lines),
  }
}

function readNetwork(element: XmlElement | undefined): PostInstall['network'] {
  if (element === undefined) return { mode: 'keep', dns: [] }
  const mode = attribute(element, 'mode') as NetworkMode
  const prefix = attribute(element, 'prefix')
  const gateway = attribute(element, 'gateway')
  const dns = (attribute(element, 'dns') ?? '').split(' ').filter((address) => address !== '')
  for (const address of [gateway, ...dns]) {
    if (address?.split('.').some((part) => Number(part) > 255)) {
      throw invalid(element.line, `\`${address}\` is not an IPv4 address`)
    }
  }
  if (mode === 'static' && prefix === undefined) {
    throw invalid(element.line, 'attribute `prefix`: a static address needs the length of its network, such as 24')
  }
  if (mode !== 'static' && (prefix !== undefined || gateway !== undefined || dns.length > 0)) {
    throw invalid(element.line, `attribute \`mode\`: prefix, gateway and dns are for static, not for ${mode}`)
  }
  return {
    mode,
    ...(prefix === undefined ? {} : { prefixLength: Number(prefix) }),
    ...(gateway === undefined ? {} : { gateway }),
    dns,
  }
}

function readCloudInit(element: XmlElement | undefined, network: PostInstall['network']): CloudInit | undefined {
  if (element === undefined) return undefined
  const text = (name: string) => {
    const document = child(element, name)
    if (document !== undefined) checkTemplate(document, network)
    return document?.content
  }
  const metaData = text('meta-data')
  const networkConfig = text('network-config')
  return {
    userData: text('user-data') ?? '',
    ...(metaData === undefined ? {} : { metaData }),
    ...(networkConfig === undefined ? {} : { networkConfig }),
  }
}

/** Throws Failure `setup-invalid` with the line when the element's text is no template that can be filled in. */
function checkTemplate(element: XmlElement, network: PostInstall['network']): void {
  const template = readTemplate(element.content)
  if ('problem' in template)
    throw invalid(element.line + template.line, `element \`${element.name}\`: ${template.problem}`)
  const lacking = lackingOfNetwork(template.words, network)
  if (lacking !== undefined) throw invalid(element.line, `element \`${element.name}\`: ${lacking}`)
}

/** What a template takes from the static network of the setup that is not there, as a sentence. */
export function lackingOfNetwork(words: ReadonlySet<string>, network: PostInstall['network']): string | undefined {
  const values = { gateway: network.gateway, prefix: network.prefixLength }
  const lacking = (['gateway', 'prefix'] as const).find((word) => words.has(word) && values[word] === undefined)
  return lacking && `\`{{${lacking}}}\` stands for \`${lacking}\` of a static network, which this setup does not have`
}

function readScripts(
  element: XmlElement,
  network: PostInstall['network'],
  lines: Map<string, number>,
): PostInstallScript[] {
  const names = new Set<string>()
  return children(element, 'script').map((script) => {
    const name = attribute(script, 'name') ?? ''
    if (names.has(name)) throw invalid(script.line, `attribute \`name\`: there are two scripts \`${name}\``)
    names.add(name)
    lines.set(`script ${name}`, script.line)
    const library = attribute(script, 'library')
    const text = script.content
    if ((library === undefined) === (text.trim() === '')) {
      throw invalid(script.line, `script \`${name}\` has its text here or the name of one in the library, one of both`)
    }
    const isTemplate = attribute(script, 'template') === 'yes'
    if (isTemplate && library === undefined) checkTemplate(script, network)
    return {
      name,
      where: (attribute(script, 'in') ?? 'chroot') as ScriptPlace,
      timeoutMs: durationMs(attribute(script, 'timeout') ?? '5min'),
      ...(library === undefined ? { text } : { library }),
      ...(isTemplate ? { isTemplate } : {}),
    }
  })
}
