// Where the seconds of one deployment go, from its events and its proof: the same for the demo's table, the measurements
// and the test of the whole story.
import type { DeploymentView, EventView } from '../src/contract/types.ts'

export type Phase = { readonly name: string; readonly seconds: number; readonly note: string }

/** Marks in the order in which a boot passes them; each ends the phase of its name. */
const marks: readonly { readonly ends: string; readonly is: (event: EventView) => boolean }[] = [
  { ends: 'power', is: ({ source, text }) => source === 'power' && text.startsWith('power cycle') },
  { ends: 'firmware', is: ({ source }) => source === 'dhcp' },
  { ends: 'loader', is: ({ kind }) => kind === 'boot-script' },
  { ends: 'kernel and stage 1', is: ({ kind }) => kind === 'dhcp-scout' },
  { ends: 'stage 2', is: ({ kind, text }) => kind === 'http-sent' && text.includes('stage2.squashfs') },
  { ends: 'agent', is: ({ kind }) => kind === 'registered' },
]

/** The phases of a deployment that is done, in order. Marks that were not seen are left out. */
export function phasesOf(deployment: DeploymentView, events: readonly EventView[]): Phase[] {
  const phases: Phase[] = []
  // Of several attempts the last one counts: what came before it was lost.
  const begun = events.findLastIndex(({ kind }) => kind === 'powering')
  let at = Date.parse(events[begun]?.at ?? deployment.startedAt)
  let rest = events.slice(begun + 1)
  for (const { ends, is } of marks) {
    const index = rest.findIndex(is)
    const event = rest[index]
    if (!event) continue
    const now = Date.parse(event.at)
    phases.push({ name: ends, seconds: (now - at) / 1000, note: '' })
    at = now
    rest = rest.slice(index + 1)
  }
  const { proof } = deployment
  for (const { step, seconds } of proof?.steps ?? []) {
    const rate = (bytes: number): string => (seconds > 0 ? `${Math.round(bytes / seconds / 1e6)} MB/s` : '')
    const mb = (bytes: number): string => `${Math.round(bytes / 1e6)} MB`
    const note =
      proof && step === 'transfer'
        ? `${mb(proof.bytesFetched)} fetched, ${mb(proof.bytesWritten)} written, ${rate(proof.bytesWritten)}`
        : proof && step === 'verify'
          ? `${mb(proof.bytesReadBack)} read back, ${rate(proof.bytesReadBack)}`
          : ''
    phases.push({ name: step, seconds, note })
  }
  const rebooting = deployment.states.find(({ step }) => step === 'rebooting')
  if (rebooting) phases.push({ name: 'reboot, new system', seconds: rebooting.seconds, note: '' })
  return phases
}

/** The phases of several deployments side by side, as lines of text. */
export function phaseTable(of: readonly { readonly name: string; readonly phases: readonly Phase[] }[]): string[] {
  const names = [...new Set(of.flatMap(({ phases }) => phases.map(({ name }) => name)))]
  const width = Math.max(...names.map((name) => name.length), 8)
  const seconds = (phases: readonly Phase[], name: string): number =>
    phases.filter((phase) => phase.name === name).reduce((sum, phase) => sum + phase.seconds, 0)
  const line = (head: string, values: readonly number[], note: string): string =>
    `${head.padEnd(width)}  ${values.map((value) => `${value.toFixed(1)} s`.padStart(9)).join('')}  ${note}`.trimEnd()
  const total = of.map(({ phases }) => phases.reduce((sum, phase) => sum + phase.seconds, 0))
  return [
    `${'step'.padEnd(width)}  ${of.map(({ name }) => name.padStart(9)).join('')}`,
    ...names.map((name) =>
      line(
        name,
        of.map(({ phases }) => seconds(phases, name)),
        of[0]?.phases.find((phase) => phase.name === name)?.note ?? '',
      ),
    ),
    line('in all', total, ''),
  ]
}
