// Explaining a host, as it travels. What types.ts says at its top holds here too.
import { type Static, Type } from 'typebox'
import { likelihoods } from '../model/explain/rule.ts'
import { milestoneNames } from '../model/explain/trail.ts'
import { operation } from './operation.ts'
import { dateTime, deploymentState, event, hostName, id, label, words } from './types.ts'

const sentence = Type.String({ maxLength: 4000 })

const milestone = Type.Object(
  {
    name: words(milestoneNames),
    words: sentence,
    at: Type.Optional(Type.String({ format: 'date-time', description: 'When it was seen; not there: it was not' })),
  },
  { title: 'Milestone' },
)

const cause = Type.Object(
  {
    cause: label,
    likelihood: words(likelihoods, {
      description:
        '`certain`: something said so itself; `likely`: what such a trail nearly always means; `possible`: it fits',
    }),
    title: sentence,
    detail: Type.Optional(sentence),
    check: Type.Array(sentence, { maxItems: 16, description: 'What to look at, the likeliest first' }),
    evidence: Type.Array(event, { maxItems: 16, description: 'The events that show it; the first is the odd one' }),
    lines: Type.Array(sentence, { maxItems: 16, description: 'Lines of the console or the log that show it' }),
  },
  { title: 'Cause' },
)

const explanation = Type.Object(
  {
    host: hostName,
    deployment: Type.Optional(id),
    state: Type.Optional(deploymentState),
    summary: sentence,
    isStuck: Type.Boolean({ description: 'Nothing moves, or it ended unwell' }),
    milestones: Type.Array(milestone, { maxItems: 32, description: 'The way of a machine, in order' }),
    missing: Type.Optional(milestone),
    causes: Type.Array(cause, { maxItems: 64, description: 'The surest first; none when nothing known fits' }),
    events: Type.Array(event, { description: 'The timeline: of the host, and of no host where it may matter' }),
    readAt: dateTime,
  },
  { title: 'Explanation' },
)
export type ExplanationView = Static<typeof explanation>

/** What a machine writes to its console while it boots, and more. */
export const consoleCharactersMax = 262_144

export const explainOperations = {
  explainHost: operation({
    summary: "Why a host is where it is: its last deployment's way, the first missing event, the causes that fit",
    access: 'viewer',
    rest: { method: 'POST', path: '/hosts/{host}/explain' },
    input: Type.Object({
      host: hostName,
      deployment: Type.Optional(id),
      console: Type.Optional(
        Type.String({
          maxLength: consoleCharactersMax,
          description: "What the machine's console showed, as recorded from serial-over-LAN: it is read, not kept",
        }),
      ),
    }),
    output: Type.Object({ explanation }),
    failures: ['unknown-host', 'unknown-deployment'],
  }),
}
