// Proofs, as they travel. What types.ts says at its top holds here too.
import { Type } from 'typebox'
import { operation } from './operation.ts'
import { dateTime, hostName, id, label } from './types.ts'

const publicKey = Type.String({ ...label, description: "The public half of the service's Ed25519 key, base64" })

export const proofOperations = {
  getProof: operation({
    summary: 'The signed proof of a deployment that has ended and whose disk was proven; kept when its host is removed',
    access: 'viewer',
    rest: { method: 'GET', path: '/deployments/{deployment}/proof' },
    input: Type.Object({ deployment: id }),
    output: Type.Object({
      deployment: id,
      host: hostName,
      signedAt: dateTime,
      document: Type.String({ description: 'The record as canonical JSON (RFC 8785): docs/proof.md names its fields' }),
      signature: Type.String({
        ...label,
        description: 'Ed25519 of `hades proof 1`, a line feed, the document, a line feed',
      }),
      publicKey,
    }),
    failures: ['unknown-deployment', 'wrong-state'],
  }),
  getSigningKey: operation({
    summary: 'The public key of the service, by which its proofs and images are checked',
    access: 'viewer',
    rest: { method: 'GET', path: '/signing-key' },
    input: Type.Object({}),
    output: Type.Object({ publicKey }),
    failures: [],
  }),
}
