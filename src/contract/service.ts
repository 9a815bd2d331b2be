// The Service Port: for the agent in the scout, which asks what to do and reports what it did (paper, section II.B).
import { Type } from 'typebox'
import { captureReport } from './capture-types.ts'
import { reportOperations } from './discovery.ts'
import { eraseReport } from './erase-types.ts'
import { operation, type Port } from './operation.ts'
import { bytes, deploymentStep, failureCode, hostName, id, inventory, proof, transferCounts, words } from './types.ts'
import { instructions } from './work-types.ts'

const deploymentOnly = { deployment: id }
const answer = Type.Object({
  action: words(['continue', 'stop']),
  reason: Type.Optional(Type.String()),
})

export const serviceOperations = {
  ...reportOperations,
  registerHost: operation({
    summary: 'The agent presents its one-time boot token and its inventory, and gets its session key',
    access: 'boot',
    rest: { method: 'POST', path: '/register' },
    input: Type.Object({
      host: hostName,
      agent: Type.String({
        pattern: '^[0-9a-f-]{36}$',
        description: 'A UUID the agent made at its start: the same agent may ask again, another may not',
      }),
      agentVersion: Type.String({ maxLength: 190 }),
      scoutSha256: Type.Optional(
        Type.String({ pattern: '^[0-9a-f]{64}$', description: 'Of the stage 2 that the agent runs in' }),
      ),
      inventory,
    }),
    output: Type.Object({ deployment: id, sessionKey: Type.String(), instructions }),
    failures: ['token-refused', 'wrong-state', 'agent-too-old'],
  }),
  getInstructions: operation({
    summary: 'What the agent is to do now',
    access: 'agent',
    rest: { method: 'GET', path: '/deployments/{deployment}/instructions' },
    input: Type.Object(deploymentOnly),
    output: Type.Object({ instructions }),
    failures: ['token-refused', 'unknown-deployment'],
  }),
  reportProgress: operation({
    summary: 'Where the agent is; the answer says whether to go on',
    access: 'agent',
    rest: { method: 'POST', path: '/deployments/{deployment}/progress' },
    input: Type.Object({
      ...deploymentOnly,
      step: deploymentStep,
      sequence: Type.Optional(
        Type.Integer({
          minimum: 0,
          maximum: Number.MAX_SAFE_INTEGER,
          description: 'Counts the reports of this agent: one that is overtaken by a later one changes nothing',
        }),
      ),
      doneBytes: bytes,
      totalBytes: bytes,
      bytesPerSecond: Type.Number({ minimum: 0 }),
      transfer: Type.Optional(transferCounts),
    }),
    output: answer,
    failures: ['token-refused', 'unknown-deployment'],
  }),
  reportEvent: operation({
    summary: "A line for the host's timeline",
    access: 'agent',
    rest: { method: 'POST', path: '/deployments/{deployment}/events' },
    input: Type.Object({
      ...deploymentOnly,
      kind: Type.String({ pattern: '^[a-z][a-z0-9.-]{0,63}$' }),
      text: Type.String({ maxLength: 4000 }),
    }),
    output: answer,
    failures: ['token-refused', 'unknown-deployment'],
  }),
  reportFailure: operation({
    summary: 'The agent could not go on: in which step, why, and the tail of its log',
    access: 'agent',
    rest: { method: 'POST', path: '/deployments/{deployment}/failure' },
    input: Type.Object({
      ...deploymentOnly,
      step: deploymentStep,
      code: failureCode,
      message: Type.Array(Type.String({ maxLength: 4000 }), { minItems: 1, maxItems: 8 }),
      log: Type.String({ maxLength: 65_536 }),
    }),
    output: Type.Object({}),
    failures: ['token-refused', 'unknown-deployment'],
  }),
  completeDeployment: operation({
    summary: 'The disk is written and proven; the boot record is back at its default before this is answered',
    access: 'agent',
    rest: { method: 'POST', path: '/deployments/{deployment}/complete' },
    input: Type.Object({ ...deploymentOnly, proof }),
    output: answer,
    failures: ['token-refused', 'unknown-deployment', 'wrong-state'],
  }),
  completeErase: operation({
    summary: 'The disks are erased and read; the boot record is back at its default before this is answered',
    access: 'agent',
    rest: { method: 'POST', path: '/erasures/{deployment}/complete' },
    input: Type.Object({ ...deploymentOnly, report: eraseReport }),
    output: answer,
    failures: ['token-refused', 'unknown-deployment', 'wrong-state'],
  }),
  beginCapture: operation({
    summary: 'The agent has chosen the disk; the answer says with which frame its upload goes on',
    access: 'agent',
    rest: { method: 'POST', path: '/captures/{deployment}' },
    input: Type.Object({
      ...deploymentOnly,
      sizeBytes: bytes,
      sectorBytes: Type.Integer({ minimum: 512, maximum: 65_536 }),
      fromStart: Type.Optional(
        Type.Boolean({ description: 'What has come is of no use: the disk holds something else' }),
      ),
    }),
    output: Type.Object({
      nextFrame: Type.Integer({ minimum: 0, description: 'Every frame before it is durable' }),
      chain: Type.String({
        pattern: '^[0-9a-f]{64}$',
        description: 'Over the SHA-256 of the disk bytes of those frames',
      }),
    }),
    failures: ['token-refused', 'unknown-deployment', 'wrong-state', 'image-too-large', 'library-full'],
  }),
  completeCapture: operation({
    summary:
      'Every frame is there: publishes the image, and is asked until it is published; the boot record is back then',
    access: 'agent',
    rest: { method: 'POST', path: '/captures/{deployment}/complete' },
    input: Type.Object({ ...deploymentOnly, report: captureReport }),
    output: Type.Object({
      state: words(['publishing', 'published', 'stopped']),
      reason: Type.Optional(Type.String()),
    }),
    failures: ['token-refused', 'unknown-deployment', 'wrong-state'],
  }),
}

export const servicePort: Port<typeof serviceOperations> = {
  name: 'service',
  summary: 'Service Port of HaDeS: agents ask for instructions and report',
  namespace: 'urn:hades:service:1',
  operations: serviceOperations,
}
