// (machine, path) -> which bytes: the "SQL" of SQL-TFTP (paper, section II.C). A loader's script is rendered from the boot
// record of the host at this moment; every other path is a file of the boot folders. TFTP and HTTP answer from here alike.
import type { Kysely } from 'kysely'
import { type BootView, bootByMac, endOnce, knownPartition, markAsked } from '../db/boot.ts'
import { lookUpProfile } from '../db/profiles.ts'
import type { Schema } from '../db/schema.ts'
import type { Keyring } from '../lib/seal.ts'
import {
  type BootContent,
  type BootRequest,
  type BootTarget,
  isSpent,
  partsOf,
  type ResolveBoot,
  targetNow,
} from '../model/boot.ts'
import type { StrangerAnswer } from '../model/discovery.ts'
import { causeChain, Failure } from '../model/failure.ts'
import { fillArguments, type NetbootProfile } from '../model/profile.ts'
import { bootToken } from '../model/token.ts'
import { renderScript } from './render-script.ts'
import { readBootFile } from './root.ts'
import { type BootScript, netbootOf, type ScriptLoader, scoutKernelArgs, scriptOfPath } from './scripts.ts'
import { strangerTeller, type ToldStranger } from './strangers.ts'

/** The folders whose files are served: loaders at the top of the namespace, the others below names of their own. */
export type BootFolders = {
  readonly loaders: string
  /** The scout as it was built, below `scout/`. */
  readonly scout: string
  /** The folders of netboot profiles, below `netboot/`. */
  readonly netboot: string
}

export type ResolveOptions = {
  readonly db: Kysely<Schema>
  readonly now: () => number
  readonly keyring: Keyring
  readonly folders: BootFolders
  readonly stage2Sha256: string
  /** The Service Port's address for agents, as `http://10.77.0.1:7780`; the boot namespace is below `/boot`. */
  readonly httpBase: string
  /** Where agents reach the Service Port when that is not `httpBase`, and the fingerprint that it must show there. */
  readonly pinned?: { readonly url: string; readonly fingerprint: string } | undefined
  /** The public key that images are signed by, base64: the agent believes no other word on what may be written. */
  readonly imageKey: string
  /** More kernel arguments for the scout, such as `hades.ssh_key=...`. */
  readonly scoutArgs: readonly string[]
  /** Told of every script that was rendered: the moment in which a machine's way was decided. */
  readonly onScript: (view: BootView, script: RenderedScript) => void
  readonly onStranger: (request: StrangersRequest) => void
}

/** A loader of a machine that is no host asked for its script. */
export type StrangersRequest = {
  readonly mac: string
  readonly via: BootRequest['via']
  readonly loader: ScriptLoader
  readonly answer: StrangerAnswer
}

export type RenderedScript = {
  readonly via: BootRequest['via']
  readonly loader: ScriptLoader
  readonly target: BootTarget
  /** What the machine is told to wait for, when it cannot be told to boot its target. */
  readonly why: string | undefined
  /** The loader tells that it could not boot what its last script said. */
  readonly hasFailed: boolean
}

const scoutPrefix = 'scout/'
const netbootPrefix = 'netboot/'

/** The file at `path` of the boot namespace; undefined when there is none. */
export async function bootFile(folders: BootFolders, path: string): Promise<BootContent | undefined> {
  if (path.startsWith(scoutPrefix)) return await readBootFile(folders.scout, path.slice(scoutPrefix.length))
  if (path.startsWith(netbootPrefix)) return await readBootFile(folders.netboot, path.slice(netbootPrefix.length))
  return await readBootFile(folders.loaders, path)
}

/** Makes the answerer of boot requests. */
export function bootResolver(options: ResolveOptions): ResolveBoot {
  const { db, now, folders, onScript, onStranger } = options
  const tellStranger = strangerTeller(options)
  return async ({ via, path }): Promise<BootContent | undefined> => {
    const asked = scriptOfPath(path)
    if (!asked) return await bootFile(folders, path)
    const view = await bootByMac(db, asked.mac)
    const { mac, loader, hasFailed } = asked
    if (!view) {
      const told = await tellStranger(mac)
      onStranger({ mac, via, loader, answer: told.answer })
      const script = strangersScript(options, mac, told)
      return script && { kind: 'rendered', body: renderScript(loader, script), mediaType: 'text/plain' }
    }
    const at = now()
    const target = targetNow(view.record, at)
    if (hasFailed) {
      onScript(view, { via, loader, target, why: undefined, hasFailed })
      return { kind: 'rendered', body: '# noted\n', mediaType: 'text/plain' }
    }
    if (isSpent(view.record, at)) await endOnce(db, view, at)
    else if (view.record.askedAt === null) await markAsked(db, view, at)
    const script = await scriptFor(options, view, target)
    const why = script.target === 'hold' ? script.why : undefined
    // A `hold` in place of the target is told as what it is.
    onScript(view, { via, loader, target: script.target === 'hold' ? 'hold' : target, why, hasFailed })
    return { kind: 'rendered', body: renderScript(loader, script), mediaType: 'text/plain' }
  }
}

/**
 * A machine that nobody made known: it boots what it would boot without us, or its disk, or the scout, with a token that is good
 * for one report of its inventory and without anything that a deployment needs.
 */
function strangersScript(
  options: ResolveOptions,
  mac: string,
  { answer, token }: ToldStranger,
): BootScript | undefined {
  if (answer === 'nothing') return undefined
  const common = { host: { name: 'unknown', mac }, bootUrl: `${options.httpBase}/boot` }
  if (answer === 'local') return { ...common, target: 'local' }
  if (answer === 'hold' || token === undefined) {
    return { ...common, target: 'hold', why: 'many machines that nobody knows ask at once' }
  }
  const words = [...scoutWords(options, mac), `hades.token=${token.reveal()}`, 'hades.agent=report']
  return { ...common, target: 'scout', ...scoutFiles, args: [...words, ...options.scoutArgs] }
}

const scoutFiles = { kernelPath: `${scoutPrefix}vmlinuz`, initrdPaths: [`${scoutPrefix}stage1.img`] }

/** What the record of this host says now. */
async function scriptFor(options: ResolveOptions, view: BootView, target: BootTarget): Promise<BootScript> {
  const { httpBase, keyring, db } = options
  const common = { host: { name: view.host, mac: view.mac }, bootUrl: `${httpBase}/boot` }
  const parts = partsOf(target)
  switch (parts.kind) {
    case 'local':
    case 'hold':
      return { ...common, target: parts.kind }
    case 'partition':
      return {
        ...common,
        target: 'partition',
        partition: parts.partition,
        ...(await knownPartition(db, view.hostId, parts.partition)),
      }
    case 'netboot': {
      const profile = await lookUpProfile(db, parts.profile)
      if (!profile) return { ...common, target: 'hold', why: `there is no profile ${parts.profile}` }
      return netbootScript(options, view, profile)
    }
    case 'scout': {
      const token = view.deployment && bootToken(keyring, view.deployment)
      // The scout is armed, but no agent is expected: one is at work already, or was a moment ago. The machine waits and
      // asks again, and the engine, which is told of this request, begins another attempt.
      if (view.deployment && !token) return { ...common, target: 'hold', why: 'its agent is at work' }
      return {
        ...common,
        target: 'scout',
        ...scoutFiles,
        args: [
          ...scoutArguments(options, view),
          ...(token ? [`hades.token=${token.reveal()}`] : []),
          ...options.scoutArgs,
        ],
      }
    }
  }
}

function scoutArguments(options: ResolveOptions, view: BootView): string[] {
  return [...scoutWords(options, view.mac), `hades.host=${view.host}`, `hades.key=${options.imageKey}`]
}

/** What every scout is told: where its service is, which interface it booted from, and what its stage 2 is. */
function scoutWords({ httpBase, pinned, stage2Sha256 }: ResolveOptions, mac: string): string[] {
  return [
    ...scoutKernelArgs,
    `hades.service=${pinned?.url ?? httpBase}`,
    ...(pinned ? [`hades.pin=${pinned.fingerprint}`] : []),
    `hades.mac=${mac}`,
    `hades.stage2=${httpBase}/boot/${scoutPrefix}stage2.squashfs`,
    `hades.stage2.sha256=${stage2Sha256}`,
  ]
}

function netbootScript(options: ResolveOptions, view: BootView, profile: NetbootProfile): BootScript {
  const { httpBase } = options
  const common = { host: { name: view.host, mac: view.mac }, bootUrl: `${httpBase}/boot` }
  try {
    const args = fillArguments(profile, {
      host: view.host,
      mac: view.mac,
      macDashes: view.mac.replaceAll(':', '-'),
      ip: view.ip ?? undefined,
      service: httpBase,
      bootUrl: common.bootUrl,
      filesUrl: `${common.bootUrl}/netboot/${profile.name}`,
      scoutArguments: [...scoutArguments(options, view), 'hades.agent=off', ...options.scoutArgs].join(' '),
    })
    return { ...common, ...netbootOf(profile, args) }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    // The machine asks again, and boots when the profile or the host is mended. What may stand on a console is little.
    const why = causeChain(error)
      .join(': ')
      .replaceAll(/[^A-Za-z0-9 .,:_-]/g, '')
      .slice(0, 200)
    return { ...common, target: 'hold', why }
  }
}
