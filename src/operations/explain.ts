// Reads the story of a host from the database, and shows what the rules of model/explain/ make of it.
import type { controlOperations } from '../contract/control.ts'
import type { ExplanationView } from '../contract/explain-types.ts'
import type { Handlers } from '../contract/operation.ts'
import type { FailureReport, Inventory } from '../contract/types.ts'
import { courseOf } from '../db/captures.ts'
import { findDeployment, type NamedDeployment, newestDeployments, nextDeploymentAt } from '../db/deployments.ts'
import { eventsBetween, lastBootRequest, type StoredEvent } from '../db/events.ts'
import { findHosts, type Host, interfacesOf, inventoriesOf, powerMethodsOf } from '../db/hosts.ts'
import { type Cause, explain } from '../model/explain/explain.ts'
import type { Story, StoryDeployment, StoryEvent } from '../model/explain/story.ts'
import { Failure, invariant } from '../model/failure.ts'
import type { Course } from '../model/setup.ts'
import { dateTime, eventView, present } from './views.ts'
import type { World } from './world.ts'

/** A deployment has some hundred events; one that loops for a day has more, and its end tells as much. */
const eventsMax = 3000
const strangersMax = 500
/** Without a deployment: what was heard of the machine lately. */
const lookBackMs = 3_600_000
/** After a deployment has ended its machine may still be heard for so long. */
const afterEndMs = 600_000
const consoleLinesMax = 5000

type StoryOf = {
  readonly host: string
  readonly deployment?: number | undefined
  readonly console?: string | undefined
}

/** The story of a host, and its events as they are stored. Failure `unknown-host`, `unknown-deployment`. */
export async function readStory(
  world: Pick<World, 'db' | 'services' | 'now'>,
  { host: name, deployment: id, console }: StoryOf,
): Promise<{ story: Story; stored: ReadonlyMap<number, StoredEvent> }> {
  const { db, services } = world
  const [host] = await findHosts(db, [name])
  invariant(host, 'findHosts returns every host or fails')
  const row = await deploymentOf(world, host, id)
  const now = world.now()
  const from = row?.started_at ?? now - lookBackMs
  const until = row?.ended_at == null ? now : Math.min(now, row.ended_at + afterEndMs)
  // What belongs to the next deployment is not of this one.
  const next = row && (await nextDeploymentAt(db, row))
  const during = { from, to: next === undefined ? until : Math.min(until, next - 1) }
  const events = await eventsBetween(db, host.id, { ...during, limit: eventsMax })
  const sources = ['dhcp', 'tftp', 'http', 'service']
  const strangers = await eventsBetween(db, null, { ...during, sources, limit: strangersMax })
  const inventory = (await inventoriesOf(db, [host.id])).get(host.id)
  const seenBefore = await lastBootRequest(db, host.id, from)
  const [method] = (await powerMethodsOf(db, [host.id])).get(host.id) ?? []
  const interfaces = (await interfacesOf(db, [host.id])).get(host.id) ?? []
  const story: Story = {
    now,
    service: { dhcp: services.some((service) => service.name === 'dhcp') },
    host: {
      name,
      loader: host.loader,
      interfaces: interfaces.map((one) => present(one)),
      ...present({ powerDriver: method?.driver, seenBefore }),
    },
    ...(row ? { deployment: storyDeployment(row, await courseOf(db, row)) } : {}),
    ...(inventory ? { inventory: storyInventory(JSON.parse(inventory.json) as Inventory) } : {}),
    events: events.map(storyEvent),
    strangers: strangers.map(storyEvent),
    console: console?.split(/\r\n|\n|\r/).slice(-consoleLinesMax) ?? [],
  }
  return { story, stored: new Map([...events, ...strangers].map((event) => [event.id, event])) }
}

async function deploymentOf(
  { db }: Pick<World, 'db'>,
  host: Host,
  id: number | undefined,
): Promise<NamedDeployment | undefined> {
  if (id === undefined) {
    const newest = (await newestDeployments(db, [host.id])).get(host.id)
    return newest && (await findDeployment(db, newest.id))
  }
  const row = await findDeployment(db, id)
  if (row.host_id === host.id) return row
  throw new Failure('unknown-deployment', `deployment ${id} is of host ${row.host}, not of ${host.name}`, {
    at: 'deployment',
  })
}

function storyEvent({ id, at, source, kind, text }: StoredEvent): StoryEvent {
  return { id, at, source, kind, text }
}

function storyDeployment(row: NamedDeployment, { probe }: Course): StoryDeployment {
  const { id, kind, state, attempt } = row
  return {
    id,
    kind,
    state,
    attempt,
    startedAt: row.started_at,
    stateSince: row.state_since,
    ...present({ endedAt: row.ended_at, waitingFor: row.waiting_for, failedStep: row.failed_step, log: row.log }),
    ...(row.failure === null ? {} : { failure: JSON.parse(row.failure) as FailureReport }),
    probe: probe.kind === 'tcp' ? `tcp ${probe.port}` : probe.kind,
  }
}

function storyInventory({ firmware, memoryBytes, interfaces }: Inventory): NonNullable<Story['inventory']> {
  return {
    firmware,
    memoryBytes,
    interfaces: interfaces.map(({ mac, carrier, ...one }) => ({
      mac,
      carrier,
      ...present({ speedMbit: one.speedMbit }),
    })),
  }
}

type Names = 'explainHost'

export function explainHandlers(world: World): Pick<Handlers<typeof controlOperations>, Names> {
  return {
    async explainHost(input) {
      const { story, stored } = await readStory(world, input)
      return { explanation: explanationView(story, stored) }
    },
  }
}

function explanationView(story: Story, stored: ReadonlyMap<number, StoredEvent>): ExplanationView {
  const { host, deployment, now } = story
  const { summary, milestones, missing, causes, isStuck } = explain(story)
  const shown = ({ id }: StoryEvent) => {
    const event = stored.get(id)
    return event ? [eventView(event)] : []
  }
  const cause = ({ evidence, lines = [], detail, ...rest }: Cause) => ({
    ...rest,
    ...present({ detail }),
    check: [...rest.check],
    evidence: evidence.flatMap(shown),
    lines: [...lines],
  })
  // Of strangers those that a cause names; the timeline of the host is what people came for.
  const named = new Set(causes.flatMap(({ evidence }) => evidence.map(({ id }) => id)))
  const events = [...story.events, ...story.strangers.filter(({ id, source }) => named.has(id) || source === 'service')]
  return {
    host: host.name,
    ...(deployment ? { deployment: deployment.id, state: deployment.state } : {}),
    summary,
    isStuck,
    milestones: milestones.map(({ name, words, event }) => ({
      name,
      words,
      ...(event ? { at: dateTime(event.at) } : {}),
    })),
    ...(missing ? { missing: { name: missing.name, words: missing.words } } : {}),
    causes: causes.map(cause),
    events: events.sort((a, b) => a.id - b.id).flatMap(shown),
    readAt: dateTime(now),
  }
}
