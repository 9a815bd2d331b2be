// What lies at the beginning of a device, by blkid (util-linux), asked of the device itself and not of its cache.
import { runTool } from './tool.ts'

/** What blkid finds: a file system or the like, and the row of the partition table. */
export type Signature = {
  readonly type?: string | undefined
  readonly uuid?: string | undefined
  readonly label?: string | undefined
  readonly partitionUuid?: string | undefined
}

/** Nothing found, or several things at once, is an answer without fields. Throws Failure `disk-error`. */
export async function readSignature(path: string, signal: AbortSignal): Promise<Signature> {
  // Exit status 2 is that nothing was found, 8 that several things were; both leave the export format empty.
  const command = ['sh', '-c', 'blkid -p -o export "$1"; case $? in 0|2|8) ;; *) exit 1 ;; esac', 'sh', path]
  const { stdout } = await runTool(`read what lies at ${path}`, command, { signal })
  return parseSignature(stdout)
}

/** Reads blkid's export format, in which a backslash stands before what a shell would take for its own. */
export function parseSignature(text: string): Signature {
  const value = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1]?.replaceAll(/\\(.)/g, '$1')
  const found = {
    type: value('TYPE'),
    uuid: value('UUID'),
    label: value('LABEL'),
    partitionUuid: value('PART_ENTRY_UUID')?.toLowerCase(),
  }
  return Object.fromEntries(Object.entries(found).filter(([, field]) => field !== undefined))
}
