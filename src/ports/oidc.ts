// Logging in by OpenID Connect (Core 1.0, code flow with PKCE): sends the browser to the provider, and makes of what it brings
// back the claims of a user. What a login needs in between travels in the browser's cookie, sealed, so that any service of
// this installation can end what another began.
import {
  allowInsecureRequests,
  authorizationCodeGrant,
  buildAuthorizationUrl,
  type Configuration,
  calculatePKCECodeChallenge,
  discovery,
  randomNonce,
  randomPKCECodeVerifier,
  randomState,
} from 'openid-client'
import type { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'

export type OidcOptions = {
  readonly issuer: string
  readonly clientId: string
  readonly clientSecret: Secret
  /** Where browsers reach this service, as `https://hades.example:7700`. */
  readonly publicUrl: string
}

/** What is kept between the two halves of a login. */
export type OidcBegun = {
  readonly state: string
  readonly nonce: string
  readonly verifier: string
  readonly at: number
}

export type OidcLogin = {
  /** Where to send the browser, and what to keep. Failure `service-unreachable`. */
  readonly begin: (now: number) => Promise<{ url: string; begun: OidcBegun }>
  /** The claims of who came back to `url`. Failure `unauthorized` when it did not come from this provider's login. */
  readonly end: (path: string, begun: OidcBegun) => Promise<Readonly<Record<string, unknown>>>
}

export const callbackPath = '/auth/oidc/callback'
const providerSeconds = 10

export function oidcLogin({ issuer, clientId, clientSecret, publicUrl }: OidcOptions): OidcLogin {
  let known: Promise<Configuration> | undefined
  const provider = async (): Promise<Configuration> => {
    known ??= discover()
    try {
      return await known
    } catch (cause) {
      // It may answer the next time.
      known = undefined
      throw new Failure('service-unreachable', `the OpenID provider ${issuer} does not tell how it is used`, { cause })
    }
  }
  const discover = async (): Promise<Configuration> => {
    const url = new URL(issuer)
    // A provider on this machine, as in a test or behind a tunnel, may do without TLS; no other.
    const isHere = url.protocol === 'http:' && ['127.0.0.1', 'localhost', '[::1]'].includes(url.hostname)
    const config = await discovery(url, clientId, clientSecret.reveal(), undefined, {
      timeout: providerSeconds,
      ...(isHere ? { execute: [allowInsecureRequests] } : {}),
    })
    config.timeout = providerSeconds
    return config
  }
  return {
    begin: async (now) => {
      const begun = { state: randomState(), nonce: randomNonce(), verifier: randomPKCECodeVerifier(), at: now }
      const url = buildAuthorizationUrl(await provider(), {
        redirect_uri: new URL(callbackPath, publicUrl).href,
        scope: 'openid profile email',
        code_challenge: await calculatePKCECodeChallenge(begun.verifier),
        code_challenge_method: 'S256',
        state: begun.state,
        nonce: begun.nonce,
      })
      return { url: url.href, begun }
    },
    end: async (path, { state, nonce, verifier }) => {
      const config = await provider()
      try {
        const tokens = await authorizationCodeGrant(config, new URL(path, publicUrl), {
          expectedState: state,
          expectedNonce: nonce,
          pkceCodeVerifier: verifier,
          idTokenExpected: true,
        })
        return { ...tokens.claims() }
      } catch (cause) {
        throw new Failure('unauthorized', 'the OpenID provider did not let this login pass', { cause })
      }
    },
  }
}
