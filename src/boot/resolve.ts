// (machine, path) -> which bytes: the "SQL" of SQL-TFTP (paper, section II.C). A loader's script is rendered from the boot
// record of the host at this moment; every other path is a file of the boot folders. TFTP and HTTP answer from here alike.
import type { Kysely } from 'kysely'
import { type BootView, bootByMac } from '../db/boot.ts'
import type { Schema } from '../db/schema.ts'
import type { Keyring } from '../lib/seal.ts'
import type { BootContent, BootRequest, ResolveBoot } from '../model/boot.ts'
import { bootToken } from '../model/token.ts'
import { readBootFile } from './root.ts'
import { type BootScript, renderScript, type ScriptLoader, scoutKernelArgs, scriptOfPath } from './scripts.ts'

/** The scout as it was built, below the folder that holds it. */
export type ScoutFiles = {
  readonly folder: string
  readonly stage2Sha256: string
}

export type ResolveOptions = {
  readonly db: Kysely<Schema>
  readonly keyring: Keyring
  /** Loaders, served at the top of the namespace. */
  readonly loaderFolder: string
  /** The scout, served below `scout/`. */
  readonly scout: ScoutFiles
  /** The Service Port's address for agents, as `http://10.77.0.1:7780`; the boot namespace is below `/boot`. */
  readonly httpBase: string
  /** More kernel arguments for the scout, such as `hades.ssh_key=...`. */
  readonly scoutArgs: readonly string[]
  /** Told of every script that was rendered: the moment in which a machine's way was decided. */
  readonly onScript: (view: BootView, script: RenderedScript) => void
}

export type RenderedScript = {
  readonly via: BootRequest['via']
  readonly loader: ScriptLoader
  readonly target: BootScript['target']
}

const scoutPrefix = 'scout/'

/** Makes the answerer of boot requests. */
export function bootResolver(options: ResolveOptions): ResolveBoot {
  const { db, loaderFolder, scout, onScript } = options
  return async ({ via, path }): Promise<BootContent | undefined> => {
    const asked = scriptOfPath(path)
    if (!asked) {
      return path.startsWith(scoutPrefix)
        ? await readBootFile(scout.folder, path.slice(scoutPrefix.length))
        : await readBootFile(loaderFolder, path)
    }
    const view = await bootByMac(db, asked.mac)
    // A machine that nobody made known boots what it would boot without us.
    if (!view) return undefined
    const script = scriptFor(options, view)
    onScript(view, { via, loader: asked.loader, target: script.target })
    return { kind: 'rendered', body: renderScript(asked.loader, script), mediaType: 'text/plain' }
  }
}

/** What the record of this host says now. */
function scriptFor(
  { keyring, httpBase, scout, scoutArgs }: Pick<ResolveOptions, 'keyring' | 'httpBase' | 'scout' | 'scoutArgs'>,
  view: BootView,
): BootScript {
  const common = { host: { name: view.host, mac: view.mac }, bootUrl: `${httpBase}/boot` }
  if (view.target !== 'scout') return { ...common, target: view.target }
  const token = view.deployment && bootToken(keyring, view.deployment)
  // The scout is armed, but no agent is expected: one is at work already, or was a moment ago. The machine waits and asks
  // again, and the engine, which is told of this request, begins another attempt.
  if (view.deployment && !token) return { ...common, target: 'hold' }
  return {
    ...common,
    target: 'scout',
    kernelPath: `${scoutPrefix}vmlinuz`,
    initrdPath: `${scoutPrefix}stage1.img`,
    args: [
      ...scoutKernelArgs,
      `hades.service=${httpBase}`,
      `hades.host=${view.host}`,
      `hades.mac=${view.mac}`,
      `hades.stage2=${httpBase}/boot/${scoutPrefix}stage2.squashfs`,
      `hades.stage2.sha256=${scout.stage2Sha256}`,
      ...(token ? [`hades.token=${token.reveal()}`] : []),
      ...scoutArgs,
    ],
  }
}
