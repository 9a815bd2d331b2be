// `hades deploy --plan`: what a rollout would do to which disk of which machine, and what keeps it from starting. The exit
// code is that of the first refusal.
import { failureMeanings } from '../contract/failures.ts'
import type { PlanHostView, RolloutPlanView } from '../contract/rollout-types.ts'
import type { FailureReport } from '../contract/types.ts'
import { foldNodeset } from '../lib/nodeset.ts'
import { duration, moment, plain, size, table } from './output.ts'
import type { Session } from './session.ts'

type Order = Parameters<Session['control']['planRollout']>[0]

export async function showPlan({ control, show }: Session, order: Order): Promise<void> {
  const { plan } = await control.planRollout(order)
  show(plan, planInWords)
  const refusal = plan.hosts.flatMap(({ refusals }) => refusals)[0]
  if (refusal) process.exitCode = failureMeanings[refusal.code].exit
}

/** A table of the disks, then what is wrong, with what to do about it; hosts of whom the same is told stand together. */
export function planInWords(plan: RolloutPlanView): string {
  const refused = plan.hosts.filter(({ refusals }) => refusals.length > 0)
  const notes = together(plan.hosts.flatMap(({ host, warnings }) => warnings.map((text) => ({ host, text }))))
  const refusals = together(
    refused.flatMap(({ host, refusals }) =>
      refusals.map(({ code, message }) => ({ host, text: message.join(': '), code })),
    ),
  )
  const disks = plan.hosts.flatMap(rows)
  const end = plan.canStart
    ? `it can start, on ${plan.hosts.length} hosts${plan.needsConfirm ? `, with --confirm ${plan.hosts.length}` : ''}`
    : plan.hosts.length === 0
      ? 'it cannot start: no host is left'
      : `it cannot start: ${refused.length} of ${plan.hosts.length} hosts are refused`
  const leftOut = together(plan.excluded.map(({ host, text }) => ({ host, text })))
  const held = together(
    plan.hosts.map(({ host, holds }) => ({
      host,
      text: holds
        ? `${holds.setup} with ${holds.images.join(', ')}, of deployment ${holds.deployment} on ${moment(holds.provenAt)}`
        : 'nothing that a deployment has proven',
    })),
  )
  return [
    `plan of ${plan.setup} with ${plan.sizes.map(imageInWords).join(', ')}`,
    ...(plan.nodeset === undefined ? [] : [`on ${plan.hosts.length} hosts: ${plan.nodeset}`]),
    `time: ${timeInWords(plan)}`,
    ...(plan.waves.length < 2 ? [] : plan.waves.map(waveInWords)),
    ...(disks.length === 0
      ? []
      : ['', table(['host', 'name', 'takes', 'identity', 'proven before', 'seen'], disks), '']),
    ...held.map(({ hosts, text }) => `${hosts}: holds ${plain(text)}`),
    ...leftOut.map(({ hosts, text }) => `${hosts}: left out: ${plain(text)}`),
    ...plan.warnings.map((warning) => `note: ${plain(warning)}`),
    ...notes.map(({ hosts, text }) => `${hosts}: note: ${plain(text)}`),
    ...refusals.flatMap(({ hosts, text, code = 'internal' }) => [
      `${hosts}: refused: ${plain(text)}`,
      `    ${failureMeanings[code].remedy} [${code}]`,
    ]),
    end,
  ].join('\n')
}

function imageInWords({ reference, sizeBytes, storedBytes }: RolloutPlanView['sizes'][number]): string {
  return `${reference} (${size(sizeBytes)} on disk, ${size(storedBytes)} to fetch)`
}

function timeInWords({ estimate: { hostSeconds, seconds, basis } }: RolloutPlanView): string {
  if (hostSeconds === undefined || seconds === undefined) return plain(basis)
  return `about ${duration(seconds)} in all, ${duration(hostSeconds)} a host; ${plain(basis)}`
}

function waveInWords({ wave, nodeset, hosts }: RolloutPlanView['waves'][number]): string {
  return `${wave === 0 ? 'canary' : `wave ${wave}`}: ${nodeset} (${hosts})`
}

type Told = { readonly host: string; readonly text: string; readonly code?: FailureReport['code'] }

/** What is told of several hosts, once, with their nodeset. */
function together(told: readonly Told[]): (Omit<Told, 'host'> & { readonly hosts: string })[] {
  const groups = Map.groupBy(told, ({ text, code }) => `${code ?? ''} ${text}`)
  return [...groups.values()].flatMap((group) => {
    const [first] = group
    if (first === undefined) return []
    const { host: _, ...same } = first
    return [{ ...same, hosts: foldNodeset(group.map(({ host }) => host)) }]
  })
}

const provenBefore = { first: 'no disk was', approved: 'yes', new: 'NO, another was' } as const

/** A row a disk; of a host that was never seen there is nothing to show. */
function rows({ host, inventoryAt, disks }: PlanHostView): string[][] {
  const seen = inventoryAt === undefined ? '' : moment(inventoryAt)
  return disks.map(({ name, disk, standing }) => {
    const identity = [disk.model, disk.serial && `serial ${disk.serial}`, disk.wwn && `wwn ${disk.wwn}`]
    const takes = `${disk.path}, ${size(disk.sizeBytes)}`
    return [host, name, takes, identity.filter(Boolean).join(', '), provenBefore[standing], seen]
  })
}
