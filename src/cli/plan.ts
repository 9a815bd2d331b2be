// `hades deploy --plan`: what a rollout would do to which disk of which machine, and what keeps it from starting. The exit
// code is that of the first refusal.
import { failureMeanings } from '../contract/failures.ts'
import type { PlanHostView, RolloutPlanView } from '../contract/setup-types.ts'
import { moment, plain, size } from './output.ts'
import { type Session, tableOr } from './session.ts'

type Order = Parameters<Session['control']['planRollout']>[0]

export async function showPlan({ control, show }: Session, order: Order): Promise<void> {
  const { plan } = await control.planRollout(order)
  show(plan, planInWords)
  const refusal = plan.hosts.flatMap(({ refusals }) => refusals)[0]
  if (refusal) process.exitCode = failureMeanings[refusal.code].exit
}

/** A table of the disks, then what is wrong, with what to do about it. */
export function planInWords(plan: RolloutPlanView): string {
  const refused = plan.hosts.filter(({ refusals }) => refusals.length > 0)
  const notes = plan.hosts.flatMap((one) => one.warnings.map((warning) => `${one.host}  note: ${warning}`))
  const end = plan.canStart
    ? `can start on ${plan.hosts.length} hosts`
    : `cannot start: ${refused.length} of ${plan.hosts.length} hosts are refused`
  return [
    `plan of ${plan.setup} with ${plan.images.join(', ')}`,
    '',
    tableOr('no hosts', ['host', 'name', 'takes', 'identity', 'proven before', 'seen'], plan.hosts.flatMap(rows)),
    '',
    ...plan.warnings.map((warning) => `note: ${plain(warning)}`),
    ...notes.map(plain),
    ...refused.flatMap(({ host, refusals }) =>
      refusals.flatMap(({ code, message }) => [
        plain(`${host}  refused: ${message.join(': ')}`),
        `    ${failureMeanings[code].remedy} [${code}]`,
      ]),
    ),
    end,
  ].join('\n')
}

const provenBefore = { first: 'no disk was', approved: 'yes', new: 'NO, another was' } as const

function rows({ host, inventoryAt, disks }: PlanHostView): string[][] {
  const seen = inventoryAt === undefined ? '' : moment(inventoryAt)
  if (disks.length === 0) return [[host, '', '', '', '', seen]]
  return disks.map(({ name, disk, standing }) => {
    const identity = [disk.model, disk.serial && `serial ${disk.serial}`, disk.wwn && `wwn ${disk.wwn}`]
    const takes = `${disk.path}, ${size(disk.sizeBytes)}`
    return [host, name, takes, identity.filter(Boolean).join(', '), provenBefore[standing], seen]
  })
}
