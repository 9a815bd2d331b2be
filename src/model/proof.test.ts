import { expect, test } from 'vitest'
import { SigningKey } from '../lib/signing.ts'
import { exportProof, proofProblem, signProof } from './proof.ts'

const key = new SigningKey(Buffer.alloc(32, 7))
const record = { deployment: 17, host: 'n07', bytes: { written: 5, readBack: 5 } }
const exported = () => JSON.parse(JSON.stringify(exportProof(signProof(key, record)))) as ReturnType<typeof exportProof>

test('what was signed is good, also when its fields are in another order', () => {
  const { proof, ...rest } = exported()
  const turned = Object.fromEntries(Object.entries(proof).reverse())
  expect(proofProblem({ ...rest, proof: turned }, key.publicKey)).toBeUndefined()
})

test('a record that was changed in any field is not', () => {
  for (const change of [{ host: 'n08' }, { bytes: { written: 5, readBack: 4 } }, { more: 1 }]) {
    const { proof, ...rest } = exported()
    expect(proofProblem({ ...rest, proof: { ...proof, ...change } }, key.publicKey)).toContain('changed')
  }
})

test('the key of another service, or the one that the file names itself, makes nothing good', () => {
  const forger = new SigningKey(Buffer.alloc(32, 8))
  const forged = exportProof(signProof(forger, record))
  expect(proofProblem(forged, key.publicKey)).toContain('another key')
  expect(proofProblem({ ...forged, publicKey: key.publicKey }, key.publicKey)).toContain('changed')
})

test.each([
  [null, 'no JSON object'],
  [{}, 'no `proof`'],
  [{ proof: {}, signature: 'x' }, 'form'],
  [{ proof: { form: 'hades proof 1' }, signature: 'x' }, 'another key'],
])('%j is refused with the reason', (what, why) => {
  expect(proofProblem(what, key.publicKey)).toContain(why)
})
