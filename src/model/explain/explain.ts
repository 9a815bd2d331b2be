// Why a host is where it is: the way it came, the first event that is missing, and the causes that fit, the surest first.
// Pure: a story in, an explanation out.
import { type Found, likelihoods, type Rule } from './rule.ts'
import { agentRules } from './rules-agent.ts'
import { bootRules } from './rules-boot.ts'
import { dhcpRules } from './rules-dhcp.ts'
import { powerRules } from './rules-power.ts'
import type { Story } from './story.ts'
import { type Milestone, type Trail, trailOf } from './trail.ts'

/** All rules. Among causes that are equally sure the one that stands first comes first. */
export const rules: readonly Rule[] = [...powerRules, ...dhcpRules, ...bootRules, ...agentRules]

export type Cause = Omit<Rule, 'find'> & Found

export type Explanation = {
  /** One sentence: where it is, and why as far as is known. */
  readonly summary: string
  readonly milestones: readonly Milestone[]
  readonly missing: Milestone | undefined
  /** The surest first; empty when nothing known fits, or nothing is wrong. */
  readonly causes: readonly Cause[]
  /** Nothing moves, or it ended unwell. */
  readonly isStuck: boolean
}

/** Explains a story. */
export function explain(story: Story): Explanation {
  const trail = trailOf(story)
  const causes = rules
    .flatMap(({ find, ...rule }): Cause[] => {
      const found = find(trail)
      return found ? [{ ...rule, ...found }] : []
    })
    .sort((a, b) => likelihoods.indexOf(a.likelihood) - likelihoods.indexOf(b.likelihood))
  const { milestones, missing, isStuck } = trail
  const summary = summaryOf(trail, causes)
  // Its machine has not been touched: what is heard of it, or not, has nothing to do with its deployment.
  if (story.deployment?.state === 'waiting') {
    return { summary, milestones: [], missing: undefined, causes: [], isStuck: false }
  }
  return { summary, milestones, missing, causes, isStuck }
}

function summaryOf(trail: Trail, causes: readonly Cause[]): string {
  const { story, missing, isStuck } = trail
  const { host, deployment } = story
  const [first] = causes
  const what = deployment === undefined ? host.name : `${host.name}, deployment ${deployment.id}`
  if (deployment?.state === 'cancelled') return `${what}: it was cancelled.`
  if (deployment?.state === 'waiting') {
    return `${what}: not begun yet; it waits for ${deployment.waitingFor ?? 'its rollout'}: see \`hades rollout list\`.`
  }
  const why = first === undefined ? 'Nothing known fits: look at the console.' : first.title
  if (isStuck) {
    const gap = missing === undefined ? '' : `, and it is missing that ${missing.words}`
    const state = deployment?.state === 'failed' ? 'failed' : 'nothing moves'
    return `${what}: ${state}${gap}. ${why}`
  }
  const remark = first === undefined ? '' : ` Worth a look: ${first.title}`
  if (deployment?.state === 'done') return `${what}: it went well.${remark}`
  if (deployment === undefined && missing?.name === 'power') return `${what}: nothing was heard of it.${remark}`
  const next = missing === undefined ? '' : `; next: ${missing.words}`
  return `${what}: under way${next}.${remark}`
}
