// The page docs/states.md: the state machine of model/deployment.ts and the ladders of model/tries.ts, as tables.

import { beatEveryMs, silentMs } from '../src/db/claims.ts'
import { unlookedMs } from '../src/db/deployments.ts'
import { agentSilenceMs, bootStallMs } from '../src/deploy/decide.ts'
import {
  type AtDeadline,
  allowedIn,
  deploymentStates,
  deploymentSteps,
  isOpen,
  type Limit,
  openStates,
  stateRules,
  stepRules,
} from '../src/model/deployment.ts'
import { coldSeconds, extraAttemptsMax, ladders, ordersMax } from '../src/model/tries.ts'

const ends: Readonly<Record<AtDeadline, string>> = {
  'another-attempt': 'another attempt, or `failed`',
  fail: '`failed`',
}

/** The page, line by line. */
export function statesPage(): string[] {
  return [
    '# The states of a deployment',
    '',
    'One table (`src/model/deployment.ts`) says which states there are, how long each may last, what happens then, and who may move a deployment',
    'where. Every change of state is one guarded statement (`moveDeployment` in `src/db/deployments.ts`) that lets nothing else through.',
    '',
    '| state | means | lasts at most | then | fails as | goes to, moved by |',
    '|---|---|---|---|---|---|',
    ...openStates.map((state) => {
      const { means, limit, atDeadline, code, next } = stateRules[state]
      const to = Object.entries(next).map(([name, movers]) => `\`${name}\` (${movers.join(', ')})`)
      return `| \`${state}\` | ${means} | ${limit ? words(limit) : 'as long as its rollout says'} | ${limit ? `${ends[atDeadline]} | \`${code}\`` : '|'} | ${to.join(', ')} |`
    }),
    ...deploymentStates
      .filter((state) => !isOpen(state))
      .map((state) => `| \`${state}\` | ${stateRules[state].means} | for good | | | |`),
    '',
    `A person may cancel in ${allowedIn.cancel.map((state) => `\`${state}\``).join(', ')}.`,
    'Hosts are those of the rollout that are under way. What a setup says in `deadlines` is exact and takes the place of the table.',
    '',
    '## Steps of the agent',
    '',
    'While `deploying` the agent tells which step it is in. A step that lasts too long ends the attempt; an agent that is silent for',
    `${span(agentSilenceMs)} ends it too. A setup that gives the whole work a time gives it to the steps that move bytes.`,
    '',
    '| step | of | lasts at most |',
    '|---|---|---|',
    ...deploymentSteps.map((step) => {
      const { of, limit } = stepRules[step]
      return `| \`${step}\` | ${of.join(', ')} | ${limit ? words(limit) : 'as long as the whole work'} |`
    }),
    '',
    '## What is tried, and in which order',
    '',
    '- **power**: ' +
      `${ladders.first.join(', ')} (a capture: ${ladders.firstOfCapture.join(', ')}), by one power method after the other, then from the start, until the`,
    `  time of the state is over or ${ordersMax} orders were given. A method that refuses is passed over. Later attempts begin with the next method:`,
    `  ${ladders.later.join(', ')}. \`soft\` lets the system shut down, \`cold\` leaves the machine off for ${coldSeconds} s.`,
    '- **boot**: as many attempts as the setup says (3). A machine that has begun to boot and asks for nothing more within',
    `  ${span(bootStallMs)} gets the next one at once. From the third on, every other one takes another loader, when the machine was heard of at all.`,
    '- **transfer**: inside an attempt the agent turns to HTTP when the swarm cannot. When the attempt ends in its transfer, the next one fetches by HTTP',
    '  from the beginning. What an agent reports as failed is tried again when [failures.md](failures.md) says that asking again can help.',
    '- **observe**: a machine that does not show its new system in half of its time is switched once more.',
    '',
    'Each order to a controller is recorded before it is given, and none is given twice; `hades rollout show` lists them with what became of them.',
    '',
    '## Several services, and dead ones',
    '',
    `A service claims the deployment that it works on and counts the claim up every ${span(beatEveryMs)}. Another one that has seen it stand still for`,
    `${span(silentMs)}, by its own running clock, frees it and goes on. Whoever has lost its claim stops: every statement names it.`,
    '',
    '## Clocks, and time in which no service was there',
    '',
    'A service measures with a clock that goes on when the time of day is set, and comes round slowly. A deployment that nobody has looked after for',
    `more than ${span(unlookedMs)}, or whose times lie ahead, has its times moved by as much, and its attempt does not count (${extraAttemptsMax} of them at most): event`,
    '`times-moved`. What a machine has shown counts by its place in the timeline, not by a clock.',
    '',
  ]
}

function words({ baseMs, perHostMs, bytesPerSecondMin, withLinger, given }: Limit): string {
  const own = given && { bootMs: 'boot', deployMs: 'deploy', observeMs: 'observe' }[given]
  return [
    span(baseMs),
    ...(perHostMs === undefined ? [] : [`${span(perHostMs)} a host`]),
    ...(bytesPerSecondMin === undefined ? [] : [`its bytes at ${bytesPerSecondMin / 1_000_000} MB/s`]),
    ...(withLinger ? ['the time that it stays as a source'] : []),
  ]
    .join(' + ')
    .concat(own === undefined ? '' : `; the setup's \`${own}\``)
}

function span(ms: number): string {
  if (ms % 3_600_000 === 0) return `${ms / 3_600_000} h`
  return ms % 60_000 === 0 ? `${ms / 60_000} min` : `${ms / 1000} s`
}
