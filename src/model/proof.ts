// The signed record of a deployment: what was written where, read back, and seen afterwards. The service signs its canonical
// JSON with the key that also signs images; anyone with the public key checks it without the service.
import { canonicalJson } from '../lib/canonical-json.ts'
import { isSignedBy, type SigningKey } from '../lib/signing.ts'

/** The form of the document; a reader refuses another. */
export const proofForm = 'hades proof 1'

export type SignedProof = {
  /** The canonical JSON of what is signed. */
  readonly document: string
  readonly signature: string
  readonly publicKey: string
}

/** As it is exported: the document as JSON beside its signature. */
export type ExportedProof = {
  readonly proof: Readonly<Record<string, unknown>>
  readonly signature: string
  readonly publicKey: string
}

/** What is signed; nothing else that the key ever signs begins like this. */
function signedText(document: string): string {
  return `${proofForm}\n${document}\n`
}

/** Signs a record, which gets the name of its form. */
export function signProof(key: SigningKey, record: Readonly<Record<string, unknown>>): SignedProof {
  const document = canonicalJson({ ...record, form: proofForm })
  return { document, signature: key.sign(signedText(document)), publicKey: key.publicKey }
}

export function exportProof({ document, signature, publicKey }: SignedProof): ExportedProof {
  return { proof: JSON.parse(document) as ExportedProof['proof'], signature, publicKey }
}

/**
 * Whether an exported proof is what the holder of `publicKey` signed. The key that the file itself names proves nothing: it
 * only tells which key to ask for. Returns the reason when it is not; undefined when it is.
 */
export function proofProblem(exported: unknown, publicKey: string): string | undefined {
  if (typeof exported !== 'object' || exported === null) return 'it is no JSON object'
  const { proof, signature, publicKey: named } = exported as Partial<ExportedProof>
  if (typeof proof !== 'object' || proof === null || typeof signature !== 'string') {
    return 'it has no `proof` with a `signature`'
  }
  if (proof.form !== proofForm) return `its form is not \`${proofForm}\``
  if (isSignedBy(signedText(canonicalJson(proof)), signature, publicKey)) return undefined
  return named === publicKey ? 'it was changed after it was signed' : 'it was signed by another key, or changed'
}
