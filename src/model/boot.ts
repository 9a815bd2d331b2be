// What a machine boots: the boot targets, and the answer to one request for a boot file.

/** What a host boots next (design: `scout`, `local`, `hold`). `hold` keeps the machine waiting in its loader. */
export const bootTargets = ['scout', 'local', 'hold'] as const
export type BootTarget = (typeof bootTargets)[number]

/** How a boot file is asked for. */
export type BootRequest = {
  readonly via: 'tftp' | 'http'
  /** As asked, without leading slashes; not yet trusted. */
  readonly path: string
  /** Address of the machine that asks, IPv4 dotted. */
  readonly peerAddress: string
}

/** The bytes of one boot file: rendered at this moment, or a file of the boot folder (absolute path, already checked). */
export type BootContent =
  | { readonly kind: 'rendered'; readonly body: string; readonly mediaType?: string }
  | { readonly kind: 'file'; readonly path: string; readonly sizeBytes: number }

/** Answers one request. `undefined`: there is no such file. It throws when it could not look. */
export type ResolveBoot = (request: BootRequest) => Promise<BootContent | undefined>
