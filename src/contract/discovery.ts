// Machines which nobody has made known: the part of the Control Port that decides on them, and the one operation of the Service
// Port that they may use.
import { Type } from 'typebox'
import { discoveredStates, discoveryPolicies } from '../model/discovery.ts'
import { operation } from './operation.ts'
import { pageInput, pageOutput } from './paging.ts'
import {
  bootTarget,
  dateTime,
  host,
  hostName,
  inventory,
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
    sightings: Type.Integer({ minimum: 0 }),
    source: label,
    said: Type.String({ maxLength: 4000, description: 'What it asked for last, in words' }),
    address: Type.Optional(ipv4),
    found: Type.Optional(Type.String({ description: 'What it reported from the scout, in a line' })),
    reportedAt: Type.Optional(dateTime),
  },
  { title: 'DiscoveredMachine' },
)

const policy = words(discoveryPolicies, {
  title: 'DiscoveryPolicy',
  description:
    'What a machine that is no host is told to boot: nothing, its own disk, or once the scout, to report what it is',
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
  getDiscovered: operation({
    summary: 'One machine that was seen and is no host, with the inventory that it reported',
    access: 'viewer',
    rest: { method: 'GET', path: '/discovered/{mac}' },
    input: Type.Object({ mac }),
    output: Type.Object({ machine: discovered, inventory: Type.Optional(inventory) }),
    failures: ['unknown-machine'],
  }),
  approveDiscovered: operation({
    summary: 'Makes a machine that was seen a host, with the interfaces and the inventory that it reported',
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
  forgetDiscovered: operation({
    summary: 'Forgets a machine that was seen and what it reported: when it asks again, it is new',
    access: 'operator',
    rest: { method: 'DELETE', path: '/discovered/{mac}' },
    input: Type.Object({ mac }),
    output: Type.Object({}),
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

export const reportOperations = {
  reportDiscovered: operation({
    summary: 'A machine that is no host says what it is, once, with the token of its boot; it gets no work and ends',
    access: 'boot',
    rest: { method: 'POST', path: '/discovered/{mac}/report' },
    input: Type.Object({
      mac,
      agent: Type.String({
        pattern: '^[0-9a-f-]{36}$',
        description: 'A UUID the agent made at its start: the same agent may ask again, another may not',
      }),
      agentVersion: Type.String({ maxLength: 190 }),
      inventory,
    }),
    output: Type.Object({}),
    failures: ['token-refused', 'wrong-state', 'agent-too-old'],
  }),
}
