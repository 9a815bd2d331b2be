// The part of the Control Port that is about machines which nobody has made known.
import { Type } from 'typebox'
import { discoveredStates, discoveryPolicies } from '../model/discovery.ts'
import { operation } from './operation.ts'
import { pageInput, pageOutput } from './paging.ts'
import {
  bootTarget,
  dateTime,
  host,
  hostName,
  ipv4,
  label,
  loader,
  mac,
  powerMethod,
  setupReference,
  words,
} from './types.ts'

const discovered = Type.Object(
  {
    mac,
    state: words(discoveredStates),
    firstSeenAt: dateTime,
    lastSeenAt: dateTime,
    sightings: Type.Integer({ minimum: 1 }),
    source: label,
    said: Type.String({ maxLength: 4000, description: 'What it asked for last, in words' }),
  },
  { title: 'DiscoveredMachine' },
)

const policy = words(discoveryPolicies, {
  title: 'DiscoveryPolicy',
  description: 'What a machine that is no host is told to boot: nothing, or its own disk',
})

export const discoveryOperations = {
  listDiscovered: operation({
    summary: 'Machines that asked for something and are no host, the one seen last first',
    access: 'viewer',
    rest: { method: 'GET', path: '/discovered' },
    input: Type.Object({ state: Type.Optional(words(discoveredStates)), ...pageInput() }),
    output: Type.Object({ machines: Type.Array(discovered), policy, ...pageOutput }),
    failures: [],
  }),
  approveDiscovered: operation({
    summary: 'Makes a machine that was seen a host',
    access: 'admin',
    rest: { method: 'POST', path: '/discovered/{mac}/approve' },
    input: Type.Object({
      mac,
      name: hostName,
      ip: Type.Optional(ipv4),
      site: Type.Optional(label),
      rack: Type.Optional(label),
      loader: Type.Optional(loader),
      setup: Type.Optional(setupReference),
      defaultTarget: Type.Optional(bootTarget),
      powerMethods: Type.Optional(Type.Array(powerMethod, { maxItems: 8 })),
    }),
    output: Type.Object({ host }),
    once: 'recorded',
    failures: ['unknown-machine', 'already-exists', 'unknown-driver', 'unknown-setup', 'unknown-profile'],
  }),
  ignoreDiscovered: operation({
    summary: 'Says that a machine that was seen is not to become a host; `ignore` false takes that back',
    access: 'operator',
    rest: { method: 'POST', path: '/discovered/{mac}/ignore' },
    input: Type.Object({ mac, ignore: Type.Optional(Type.Boolean()) }),
    output: Type.Object({ machine: discovered }),
    failures: ['unknown-machine'],
  }),
  setDiscovery: operation({
    summary: 'Sets what machines that are no host are told; nothing is ever written to their disks',
    access: 'admin',
    rest: { method: 'PUT', path: '/discovery' },
    input: Type.Object({ policy }),
    output: Type.Object({ policy }),
    failures: [],
  }),
}
