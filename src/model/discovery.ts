// Machines that ask for something and whose MAC address belongs to no host: what they are told, which addresses they may
// have, and what of their own report becomes a host's.
import { dottedIpv4, ipv4Number } from '../lib/ipv4.ts'
import { Failure } from './failure.ts'

/** What is told to such a machine: nothing, to go on with its disk, or to boot the scout once and say what it is. */
export const discoveryPolicies = ['ignore', 'local', 'scout'] as const
export type DiscoveryPolicy = (typeof discoveryPolicies)[number]

/** `waiting`: somebody is to decide. `ignored`: somebody has. */
export const discoveredStates = ['waiting', 'ignored'] as const
export type DiscoveredState = (typeof discoveredStates)[number]

/** What a loader is answered that asks for the script of such a machine. `hold`: too many ask, it is to ask again. */
export type StrangerAnswer = 'nothing' | 'local' | 'scout' | 'hold'

/** `seen`: what is known of the machine. One that has reported, or that somebody ignores, is not started by us again. */
export function answerToStranger(
  policy: DiscoveryPolicy,
  seen: { readonly state: DiscoveredState; readonly hasReported: boolean } | undefined,
): Exclude<StrangerAnswer, 'hold'> {
  if (policy === 'ignore') return 'nothing'
  const isNew = seen === undefined || (seen.state === 'waiting' && !seen.hasReported)
  return policy === 'scout' && isNew ? 'scout' : 'local'
}

/** The part of an inventory that is looked at here. */
type Found = {
  readonly firmware: string
  readonly cpuCount: number
  readonly memoryBytes: number
  readonly vendor?: string | undefined
  readonly product?: string | undefined
  readonly serial?: string | undefined
  readonly disks: readonly { readonly sizeBytes: number }[]
  readonly interfaces: readonly { readonly mac: string; readonly driver?: string | undefined }[]
}

/** An inventory in one line, as a list of machines shows it. */
export function sayFound({
  vendor,
  product,
  serial,
  firmware,
  cpuCount,
  memoryBytes,
  disks,
  interfaces,
}: Found): string {
  const gib = (bytes: number) => `${Math.round((bytes / 2 ** 30) * 10) / 10} GiB`
  const name = [vendor, product].filter((word) => word !== undefined).join(' ')
  const total = disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  return [
    ...(name === '' ? [] : [name]),
    ...(serial === undefined ? [] : [`serial ${serial}`]),
    firmware,
    `${cpuCount} CPU`,
    gib(memoryBytes),
    `${counted(disks.length, 'disk')}${disks.length === 0 ? '' : ` of ${gib(total)}`}`,
    counted(interfaces.length, 'interface'),
  ].join(', ')
}

const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`

/** Links from a machine to its own controller: no network, and on many models the same MAC address in each machine. */
const controllerDrivers: ReadonlySet<string> = new Set(['cdc_ether', 'cdc_eem', 'cdc_ncm', 'rndis_host'])

/** No host has more. */
const interfacesMax = 32

/** The MAC addresses of a machine, the one that it booted from first, then what its report names beside it. */
export function macsOf(booted: string, interfaces: Found['interfaces']): string[] {
  const others = interfaces.flatMap(({ mac, driver }) =>
    controllerDrivers.has(driver ?? '') ? [] : [mac.toLowerCase().replaceAll('-', ':')],
  )
  return [...new Set([booted, ...others])].slice(0, interfacesMax)
}

/** A pool serves one network's newcomers, not a network. */
const poolMax = 1024

/**
 * The addresses of a pool, `10.0.0.200-10.0.0.250`, in their order. Failure `bad-input` unless all of them are hosts of the
 * network that `server` stands in, and none is its own.
 */
export function poolAddresses(
  pool: string,
  server: { readonly address: string; readonly prefixLength: number },
): string[] {
  const refuse = (why: string): never => {
    throw new Failure('bad-input', `the DHCP pool ${pool} ${why}`, { at: '--dhcp-pool' })
  }
  const [first, last] = pool.split('-').map(ipv4Number)
  if (first === undefined || last === undefined || first > last)
    return refuse('does not go from an address to a later one')
  if (last - first >= poolMax) return refuse(`has ${last - first + 1} addresses; ${poolMax} are allowed`)
  const size = 2 ** (32 - server.prefixLength)
  const own = ipv4Number(server.address)
  const network = Math.floor(own / size) * size
  if (first <= network || last >= network + size - 1) {
    return refuse(`reaches out of the network of ${server.address}/${server.prefixLength}`)
  }
  if (first <= own && own <= last) return refuse(`has ${server.address}, which is the server's own`)
  return Array.from({ length: last - first + 1 }, (_, index) => dottedIpv4(first + index))
}
