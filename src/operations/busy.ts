// Hosts that something is under way with: what else is asked of them must wait.
import type { Host } from '../db/hosts.ts'
import { foldNodeset } from '../lib/nodeset.ts'
import { Failure } from '../model/failure.ts'

/** Failure `wrong-state` that names those of `hosts` that are in `active`. */
export function refuseBusy(active: ReadonlyMap<number, unknown>, hosts: readonly Host[], sentence: string): void {
  const busy = hosts.filter((host) => active.has(host.id)).map((host) => host.name)
  if (busy.length > 0) throw new Failure('wrong-state', `${foldNodeset(busy)} ${sentence}`, { at: 'nodeset' })
}
