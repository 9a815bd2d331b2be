// How long a rollout may take, guessed from deployments that ended well; where there are none, that is what is said.

/** A deployment that ended well. */
export type PastDeployment = {
  /** From the moment it began to its end. */
  readonly seconds: number
  /** Of these, while the agent was at work. */
  readonly deployingSeconds: number
  /** Bytes of image.zst that it fetched at most. */
  readonly storedBytes: number
  readonly isSameImage: boolean
}

export type Estimate = { readonly hostSeconds?: number; readonly seconds?: number; readonly basis: string }

/** Guesses how long `waves`, each so many hosts, take with `concurrency` of them at a time. */
export function estimate(
  past: readonly PastDeployment[],
  storedBytes: number,
  { waves, concurrency }: { readonly waves: readonly number[]; readonly concurrency: number | undefined },
): Estimate {
  const { hostSeconds, basis } = ofOneHost(past, storedBytes)
  if (hostSeconds === undefined) return { basis }
  // Hosts of a wave share what they fetch, so that a wave takes as long as a host, unless they may not begin together.
  const turns = waves.reduce((sum, hosts) => sum + Math.ceil(hosts / (concurrency ?? hosts)), 0)
  return { hostSeconds, seconds: Math.round(turns * hostSeconds), basis }
}

function ofOneHost(past: readonly PastDeployment[], storedBytes: number): { hostSeconds?: number; basis: string } {
  const same = past.filter(({ isSameImage }) => isSameImage)
  if (same.length > 0) {
    const seconds = same.map((one) => one.seconds)
    const slowest = Math.max(...seconds)
    const spread = `the slowest of them took ${Math.round(slowest)} s`
    return {
      hostSeconds: round(median(seconds)),
      basis: `the median of ${same.length} deployments with the same image; ${spread}`,
    }
  }
  const rated = past.filter((one) => one.deployingSeconds > 0 && one.storedBytes > 0)
  if (rated.length === 0 || storedBytes === 0) {
    return { basis: 'unknown: no deployment that tells of it has ended well here yet' }
  }
  const rate = median(rated.map((one) => one.storedBytes / one.deployingSeconds))
  const rest = median(rated.map((one) => one.seconds - one.deployingSeconds))
  const basis = `this image was never deployed: the rates of ${rated.length} deployments of others, ${Math.round(rate)} bytes/s, and ${Math.round(rest)} s for booting`
  return { hostSeconds: round(rest + storedBytes / rate), basis }
}

function round(seconds: number): number {
  return Math.round(seconds * 10) / 10
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  return ((sorted[Math.ceil(middle) - 1] ?? 0) + (sorted[Math.floor(middle)] ?? 0)) / 2
}
