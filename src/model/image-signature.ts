// The signature of an image: the service that published it says so of its digest. Whoever changes the database or a mirror can
// name another digest and cannot sign it.
import { isSignedBy, type SigningKey } from '../lib/signing.ts'
import { Failure } from './failure.ts'

/** What is signed; nothing else that the key ever signs begins like this. */
function signedText(digest: string): string {
  return `hades image 1\n${digest}\n`
}

export function signDigest(key: SigningKey, digest: string): string {
  return key.sign(signedText(digest))
}

/**
 * Throws Failure `image-corrupt` unless the service with this public key signed the digest. An agent calls this before it
 * touches a disk.
 */
export function checkSignature(image: {
  readonly reference: string
  readonly digest: string
  readonly signature: string | undefined
  readonly publicKey: string
}): void {
  const { reference, digest, signature, publicKey } = image
  if (signature !== undefined && isSignedBy(signedText(digest), signature, publicKey)) return
  const how = signature === undefined ? 'is not signed' : 'has a signature that is not of this service'
  throw new Failure('image-corrupt', `image ${reference} (${digest}) ${how}: nothing was written`, { at: 'signature' })
}
