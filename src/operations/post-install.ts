// What a setup wants done after the images, as it is sent to the agent of one host: scripts of the library put in,
// templates filled in.
import type { Static } from 'typebox'
import type { postInstall as postInstallSchema } from '../contract/layout-types.ts'
import { Failure } from '../model/failure.ts'
import type { PostInstall } from '../model/post-install.ts'
import { fillTemplate, type TemplateWord } from '../model/template.ts'
import { present } from './views.ts'

/** What templates are filled from. */
export type TemplateHost = {
  readonly host: string
  readonly site: string | null
  readonly rack: string | null
  readonly interfaces: readonly { readonly mac: string; readonly ip: string | null }[]
  readonly deployment: number
  /** The first image of the setup. */
  readonly image: string
  readonly service: string
}

/** Linux takes no longer host name, and RFC 1123 no other characters. */
const hostnamePattern =
  /^(?=.{1,64}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$/
/** As the contract bounds a document. */
const documentMax = 65_536

/**
 * Fills in everything. `scripts` are the texts of the library by reference. Throws Failure `bad-input` when the host
 * lacks what a template or the static network needs, or when what comes out cannot be used.
 */
export function fillPostInstall(
  postInstall: PostInstall,
  scripts: ReadonlyMap<string, string>,
  host: TemplateHost,
): Static<typeof postInstallSchema> {
  const { network, hostname, cloudInit } = postInstall
  const lookUp = (word: TemplateWord) => valueFor(word, host, network)
  const fill = (what: string, text: string): string => {
    const filled = fillTemplate(text, lookUp)
    if (filled.length <= documentMax) return filled
    throw lacking(`${what} has more than ${documentMax} characters when it is filled in`)
  }
  const fillGiven = (what: string, text: string | undefined) => (text === undefined ? undefined : fill(what, text))
  if (network.mode === 'static') lookUp('ip')
  const name = hostname === undefined ? undefined : fillTemplate(hostname, lookUp).trim()
  if (name !== undefined && !hostnamePattern.test(name)) {
    throw lacking(`the hostname of the setup becomes \`${name}\`, which no machine can have`)
  }
  const filled = cloudInit && {
    userData: fill('user-data', cloudInit.userData),
    ...present({
      metaData: fillGiven('meta-data', cloudInit.metaData),
      networkConfig: fillGiven('network-config', cloudInit.networkConfig),
    }),
  }
  const { root, newHostKeys, newMachineId, writeFstab, growLast, installBootLoader } = postInstall
  return {
    ...present({ root, hostname: name, cloudInit: filled }),
    network: {
      mode: network.mode,
      dns: [...network.dns],
      ...present({ prefixLength: network.prefixLength, gateway: network.gateway }),
    },
    newHostKeys,
    newMachineId,
    authorizedKeys: postInstall.authorizedKeys.map((key) => ({ ...key })),
    writeFstab,
    growLast,
    installBootLoader,
    scripts: postInstall.scripts.map(({ name, where, timeoutMs, text, library, isTemplate }) => {
      const whole = text ?? scripts.get(library ?? '')
      if (whole === undefined) throw lacking(`script ${library} was not kept with the rollout`)
      return { name, where, timeoutMs, text: isTemplate ? fill(`script ${name}`, whole) : whole }
    }),
  }
}

function valueFor(word: TemplateWord, host: TemplateHost, network: PostInstall['network']): string {
  const addressed = host.interfaces.find(({ ip }) => ip !== null)
  const values: Record<TemplateWord, string | number | null | undefined> = {
    host: host.host,
    ip: addressed?.ip,
    mac: (addressed ?? host.interfaces[0])?.mac,
    site: host.site,
    rack: host.rack,
    deployment: host.deployment,
    image: host.image,
    gateway: network.gateway,
    prefix: network.prefixLength,
    service: host.service,
  }
  const value = values[word]
  if (value !== null && value !== undefined) return String(value)
  const mend = word === 'ip' ? ': `hades host change NAME --mac MAC=IP` gives it one' : ''
  throw lacking(`there is no ${word} of the host, and the setup needs it${mend}`)
}

function lacking(sentence: string): Failure {
  return new Failure('bad-input', sentence, { at: 'nodeset' })
}
