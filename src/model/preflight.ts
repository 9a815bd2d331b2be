// What is looked at before the first machine: checks, each with its outcome, in words, and what to do about it.
export const checkOutcomes = ['ok', 'warning', 'failure'] as const
export type CheckOutcome = (typeof checkOutcomes)[number]

export type PreflightCheck = {
  /** Two or three words that say what was looked at. */
  readonly name: string
  readonly outcome: CheckOutcome
  /** What was seen. */
  readonly says: string
  /** What to do, unless all is well. */
  readonly fix?: string
}

/** The worst of them. */
export function worstOf(checks: readonly PreflightCheck[]): CheckOutcome {
  if (checks.some(({ outcome }) => outcome === 'failure')) return 'failure'
  return checks.some(({ outcome }) => outcome === 'warning') ? 'warning' : 'ok'
}

/** A check that could not be made says so: it is never `ok`, and no failure of what it would have looked at. */
export function couldNotLook(name: string, why: string, fix: string): PreflightCheck {
  return { name, outcome: 'warning', says: `could not be looked at: ${why}`, fix }
}

/** An offer of a DHCP server to a client that nobody knows. */
export type SeenOffer = {
  readonly server: string
  readonly address: string
  readonly nextServer?: string
  readonly bootFile?: string
}

/** What it means that these servers answer a stranger on the machines' network. */
export function judgeOffers(
  offers: readonly SeenOffer[],
  { ours, dhcp }: { readonly ours: string; readonly dhcp: 'full' | 'off' },
): PreflightCheck {
  const name = 'dhcp servers'
  const others = [
    ...new Map(offers.filter(({ server }) => server !== ours).map((offer) => [offer.server, offer])).values(),
  ]
  const said = others
    .map(({ server, address, bootFile }) => `${server} offers ${address}${bootFile ? ` and ${bootFile}` : ''}`)
    .join('; ')
  if (dhcp === 'full') {
    if (others.length === 0) return { name, outcome: 'ok', says: 'no other DHCP server answers a stranger' }
    const fix =
      'Switch the other server off on this network, or start this service with --dhcp off and let it send machines here.'
    return { name, outcome: 'failure', says: said, fix }
  }
  if (others.length === 0) {
    const says = 'this service answers no DHCP, and no other server answered a stranger'
    return {
      name,
      outcome: 'warning',
      says,
      fix: "See that the site's server knows the machines; one that knows only them does not answer this.",
    }
  }
  if (others.length > 1) return { name, outcome: 'failure', says: said, fix: 'Leave one DHCP server on this network.' }
  const [only] = others
  const isHere = only?.nextServer === ours || only?.bootFile?.includes(ours) === true
  if (isHere) return { name, outcome: 'ok', says: `${said}, and sends machines here` }
  const fix = `Give that server next-server ${ours} and the loaders of docs/netboot.md, at least for the hosts' MAC addresses.`
  return { name, outcome: 'warning', says: `${said}, and does not send strangers here`, fix }
}
