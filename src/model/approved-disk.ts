// The guard against the wrong disk: a host whose disks have been proven once gets no other disk overwritten unless
// somebody says so. Hints may fit another disk when one has died, when cables were exchanged, or when a setup has changed.
import { Failure } from './failure.ts'
import type { DiskIdentity } from './host.ts'

/** A disk that a deployment of the host has proven, by the name that its layout gave it. */
export type ApprovedDisk = {
  readonly name: string
  readonly sizeBytes: number
  readonly model?: string | undefined
  readonly serial?: string | undefined
  readonly wwn?: string | undefined
}

/** `first`: nothing is known of the host's disks. `approved`: this disk is. `new`: another one is, this one is not. */
export const identityStandings = ['first', 'approved', 'new'] as const
export type IdentityStanding = (typeof identityStandings)[number]

type Identity = Pick<DiskIdentity, 'sizeBytes' | 'model' | 'serial' | 'wwn'>

/**
 * Whether the disk that a name of a layout takes is one that it may take. A name that was never used may take any disk
 * that was approved under another: setups call one disk by different names.
 */
export function standingOf(name: string, disk: Identity, approved: readonly ApprovedDisk[]): IdentityStanding {
  if (approved.length === 0) return 'first'
  return candidatesOf(name, approved).some((one) => isSame(one, disk)) ? 'approved' : 'new'
}

/** Throws Failure `disk-changed` with both identities when the disk is not one that the name may take. */
export function checkIdentity(
  name: string,
  disk: Identity & Pick<DiskIdentity, 'path'>,
  approved: readonly ApprovedDisk[],
): void {
  if (standingOf(name, disk, approved) !== 'new') return
  const known = candidatesOf(name, approved).map(identityInWords).join(' or ')
  const sentence = `disk \`${name}\` would be ${disk.path} (${identityInWords(disk)}), and this host's proven one is ${known}`
  throw new Failure('disk-changed', sentence)
}

/** Whether the disk was approved under this very name. */
export function isApproved(name: string, disk: Identity, approved: readonly ApprovedDisk[]): boolean {
  return approved.some((one) => one.name === name && isSame(one, disk))
}

function candidatesOf(name: string, approved: readonly ApprovedDisk[]): readonly ApprovedDisk[] {
  const ofName = approved.filter((one) => one.name === name)
  return ofName.length > 0 ? ofName : approved
}

/**
 * The size and every name that both have must be the same. The model only where neither a serial number nor a world-wide
 * name says more: drivers of different kernels spell it differently.
 */
function isSame(a: Identity, b: Identity): boolean {
  const names = (['wwn', 'serial'] as const).filter((key) => a[key] !== undefined && b[key] !== undefined)
  const compared = names.length > 0 ? names : (['model'] as const)
  return a.sizeBytes === b.sizeBytes && compared.every((key) => a[key]?.toLowerCase() === b[key]?.toLowerCase())
}

function identityInWords({ sizeBytes, model, serial, wwn }: Identity): string {
  const names = [model, serial && `serial ${serial}`, wwn && `wwn ${wwn}`].filter(Boolean)
  return [`${sizeBytes} bytes`, ...names].join(', ')
}
