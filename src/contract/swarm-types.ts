// The data types of watching and limiting the swarm. What types.ts says at its top holds here too.
import { type Static, Type } from 'typebox'
import {
  bytes,
  copiesOutOfOrigin,
  dateTime,
  deploymentState,
  deploymentStep,
  hostName,
  id,
  imageReference,
  label,
  peerBytes,
  rateLimit,
  setupReference,
  sha256,
  transferPolicy,
} from './types.ts'

/** One host of the swarm. Its bytes are those of TransferCounts, zero while its agent counts none. */
const swarmHost = Type.Object(
  {
    host: hostName,
    site: Type.Optional(label),
    rack: Type.Optional(label),
    deployment: id,
    state: deploymentState,
    step: Type.Optional(deploymentStep),
    doneBytes: Type.Integer({ minimum: 0, description: 'How far the transfer is, of `totalBytes`' }),
    totalBytes: bytes,
    bytesPerSecond: Type.Number({ minimum: 0, description: 'How fast `doneBytes` grows, over the last 30 s' }),
    isSlow: Type.Boolean({ description: 'Slower than half of the usual rate: it does not move `estimateEndAt`' }),
    receivedBytes: bytes,
    verifiedBytes: bytes,
    writtenBytes: bytes,
    durableBytes: bytes,
    fromOriginBytes: bytes,
    fromPeersBytes: bytes,
    toPeersBytes: bytes,
    predecessor: Type.Optional(Type.String({ ...label, description: 'The peer that gave most' })),
    sources: Type.Array(peerBytes, { maxItems: 16 }),
  },
  { title: 'SwarmHost' },
)

const hostCount = Type.Integer({ minimum: 0 })

export const swarm = Type.Object(
  {
    rollout: id,
    setup: setupReference,
    startedAt: dateTime,
    ...transferPolicy,
    images: Type.Array(
      Type.Object({ reference: imageReference, digest: sha256, storedBytes: bytes }, { title: 'SwarmImage' }),
    ),
    totals: Type.Object(
      {
        hosts: hostCount,
        waiting: Type.Integer({ minimum: 0, description: 'Hosts whose transfer has not begun' }),
        running: Type.Integer({ minimum: 0, description: 'Hosts that are fetching' }),
        ended: Type.Integer({ minimum: 0, description: 'Hosts that have the whole image' }),
        lost: Type.Integer({ minimum: 0, description: 'Hosts that failed or were cancelled' }),
        originBytes: Type.Integer({ ...bytes, description: 'Received from the origin by all hosts' }),
        peersBytes: Type.Integer({ ...bytes, description: 'Received from each other by all hosts' }),
        copiesOutOfOrigin,
        receivedBytesPerSecond: Type.Number({ minimum: 0, description: 'By all hosts together' }),
      },
      { title: 'SwarmTotals' },
    ),
    estimateEndAt: Type.Optional(
      Type.String({ ...dateTime, description: 'When the last host will have the image, stragglers aside' }),
    ),
    stragglersEndAt: Type.Optional(Type.String({ ...dateTime, description: 'When the last straggler will have it' })),
    hosts: Type.Array(swarmHost, { description: 'Those that fetch first, the slowest before all' }),
  },
  { title: 'Swarm' },
)
export type SwarmView = Static<typeof swarm>
export type SwarmHostView = Static<typeof swarmHost>

export const site = Type.Object(
  {
    name: label,
    hosts: hostCount,
    egressBytesPerSecond: Type.Optional(rateLimit('Cap of what leaves the site')),
    ingressBytesPerSecond: Type.Optional(rateLimit('Cap of what comes into the site')),
  },
  { title: 'Site' },
)
export type SiteView = Static<typeof site>
