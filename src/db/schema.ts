// The tables, as types. Times are milliseconds since 1970 (UTC), JSON is text, booleans are 0 or 1: the same on SQLite
// and on MariaDB. migrations/ makes the tables; nothing else may.
import type { Generated } from 'kysely'
import type { BootTarget } from '../model/boot.ts'
import type { CaptureFinish, DeploymentKind } from '../model/capture.ts'
import type { MemberStanding, RolloutState } from '../model/conduct.ts'
import type { DeploymentState, DeploymentStep } from '../model/deployment.ts'
import type { DiscoveredState } from '../model/discovery.ts'
import type { EraseFinish, ErasingMethod } from '../model/erase.ts'
import type { FailureCode } from '../model/failure.ts'
import type { Loader } from '../model/host.ts'
import type { ImageKind } from '../model/image.ts'
import type { RedeployMode } from '../model/layout.ts'
import type { RebootState } from '../model/reboot.ts'
import type { Role } from '../model/role.ts'
import type { TransferEngine } from '../model/swarm.ts'

export type Schema = {
  hosts: HostRow
  interfaces: InterfaceRow
  power_methods: PowerMethodRow
  inventories: InventoryRow
  approved_disks: ApprovedDiskRow
  images: ImageRow
  setups: SetupRow
  setup_images: SetupImageRow
  scripts: ScriptRow
  boot_records: BootRecordRow
  rollouts: RolloutRow
  rollout_images: RolloutImageRow
  rollout_scripts: RolloutScriptRow
  deployments: DeploymentRow
  captures: CaptureRow
  erasures: ErasureRow
  events: EventRow
  tasks: TaskRow
  sites: SiteRow
  profiles: ProfileRow
  reboots: RebootRow
  proofs: ProofRow
  once_calls: OnceCallRow
  webhooks: WebhookRow
  dead_deliveries: DeadDeliveryRow
  discovered: DiscoveredRow
  settings: SettingRow
  users: UserRow
  tokens: TokenRow
  audit: AuditRow
  leases: LeaseRow
}

export type HostRow = {
  id: Generated<number>
  name: string
  site: string | null
  rack: string | null
  loader: Loader
  setup: string | null
  created_at: number
  /** Why no rollout may take the host unless it is named as one of those meant; null: it is not protected. */
  protected_reason: string | null
}

export type InterfaceRow = {
  id: Generated<number>
  host_id: number
  /** Lower case, colons. */
  mac: string
  ip: string | null
}

/** The method with the lowest position is the current one. */
export type PowerMethodRow = {
  id: Generated<number>
  host_id: number
  position: number
  driver: string
  address: string
  username: string
  /** Sealed with the key that lies outside the database. */
  sealed_password: string
  options: string
}

export type InventoryRow = { host_id: number; at: number; json: string }

/** A disk of a host that may be overwritten: one that a deployment has proven, by its name in the layout. */
export type ApprovedDiskRow = {
  id: Generated<number>
  host_id: number
  name: string
  size_bytes: number
  model: string | null
  serial: string | null
  wwn: string | null
  approved_at: number
}

export type ImageRow = {
  id: Generated<number>
  name: string
  version: string
  digest: string
  size_bytes: number
  data_bytes: number
  stored_bytes: number
  published_at: number
  kind: Generated<ImageKind>
  /** Bytes of disk that may read as anything. */
  free_bytes: Generated<number>
  is_protected: Generated<number>
  owner: string | null
  description: string | null
  /** What was seen in it when it was imported, as JSON of the contract's `volumes` and `archive`. */
  contents: string | null
  /** Of the digest, by the key of the service that published it. */
  signature: string | null
  /** Of a captured image: what was found in it that belongs to one machine, as JSON of the contract's Hygiene. */
  hygiene: string | null
}

export type SetupRow = { id: Generated<number>; name: string; version: number; xml: string; created_at: number }

/** Which images a setup names, so that "who uses it" is one look-up. */
export type SetupImageRow = { setup_id: number; image_name: string; image_version: string }

/** A script of the library. What name and version stand for is never changed. */
export type ScriptRow = {
  id: Generated<number>
  name: string
  version: number
  text: string
  sha256: string
  created_at: number
}

/** What each reference of a setup to the library meant when a rollout began. */
export type RolloutScriptRow = { rollout_id: number; reference: string; name: string; version: number; sha256: string }

/** What a host boots: one row a host, read at the moment the machine asks. */
export type BootRecordRow = {
  host_id: number
  target: BootTarget
  default_target: BootTarget
  deployment_id: number | null
  changed_at: number
  /** 1: the target is for one boot. */
  is_once: number
  /** When a loader first asked for the script of this target. */
  asked_at: number | null
}

/** The policy is the setup's with what the order of the rollout says otherwise; null in rollouts of before there was one. */
export type RolloutRow = {
  id: Generated<number>
  setup_id: number
  started_at: number
  engine: TransferEngine | null
  egress_bytes_per_second: number | null
  ingress_bytes_per_second: number | null
  linger_seconds: number | null
  redeploy: RedeployMode | null
  /** 1: its hosts may overwrite disks that no deployment has proven before. */
  accept_new_disk: number | null
  state: Generated<RolloutState>
  /** Why it is in this state, in words; null while it runs. */
  state_reason: string | null
  /** Counts what was done to the rollout as a whole: two processes that act at the same moment collide here. */
  turn: Generated<number>
  /** As JSON of model/rollout-policy.ts' Policy; null: all of its hosts began at once. */
  policy: string | null
  /** Hosts of the nodeset that were left out, as JSON of model/exclusion.ts' Excluded. */
  excluded: string | null
}

/** What a rollout's hosts get, in the order of the setup: what each reference meant when the rollout began. */
export type RolloutImageRow = {
  rollout_id: number
  position: number
  name: string
  version: string
  digest: string
  stored_bytes: number
}

export type DeploymentRow = {
  id: Generated<number>
  rollout_id: number
  host_id: number
  setup_id: number
  kind: Generated<DeploymentKind>
  /** Where in the order of its rollout. */
  position: Generated<number>
  /** In which wave it begins; 0: it is a canary. */
  wave: Generated<number>
  standing: MemberStanding | null
  /** The deployment that this one does again. */
  retry_of: number | null
  /** The first image of the rollout; empty for a capture. */
  image_digest: string
  state: DeploymentState
  state_since: number
  started_at: number
  ended_at: number | null
  /** When the engine looks at the row again, whatever happens. */
  due_at: number
  deadline_at: number | null
  attempt: number
  /** A random word that this attempt's boot token is derived from. */
  boot_nonce: string | null
  /** The agent that used the token: it may ask again, no other may. */
  agent: string | null
  /** Last sign of life, when it was noticed: a boot request while booting, a report while deploying. */
  heard_at: number | null
  step: DeploymentStep | null
  done_bytes: number
  total_bytes: number
  bytes_per_second: number
  /** What the agent last said of its transfer, as JSON of the contract's TransferCounts. */
  transfer: string | null
  /** How the transfer went on lately, as JSON of model/pace.ts; kept when it has ended. */
  track: string | null
  waiting_for: string | null
  failure: string | null
  failed_step: string | null
  log: string | null
  proof: string | null
  /** What the agent that registered last said of itself: its version, and the stage 2 that it runs in. */
  agent_version: string | null
  scout_sha256: string | null
  /** When each state was entered, as JSON `[{state, at}]`. */
  history: string
  /** The loop that works on the row, and a number that it counts up as long as it lives; see db/claims.ts. */
  lease_owner: string | null
  lease_beat: Generated<number>
  /** When the agent's step began. */
  step_since: number | null
  /** The number of the last report of progress that counted, in this attempt. */
  report_sequence: number | null
  /** The newest event there was when this state was entered: what comes after it belongs to this state, whatever a clock says. */
  state_event: number | null
  /** The newest boot request of the machine that the engine has seen in this state. */
  seen_event: number | null
  /** The loader of this attempt, when it is to be another than the host's. */
  boot_loader: Loader | null
  /** How the image comes in this attempt, when it is to be another way than the rollout's. */
  transfer_engine: TransferEngine | null
  /** As JSON of model/tries.ts. */
  tries: string | null
  /** Attempts beyond those of the setup, for those in which no service was there. */
  extra_attempts: Generated<number>
}

/** The order of a capture, and what of the disk has come: `frames` and `stored_bytes` are durable in its staged file. */
export type CaptureRow = {
  deployment_id: number
  name: string
  version: string
  disk: string | null
  /** As JSON of model/host.ts' DiskHint. */
  hints: string
  partition_number: number | null
  repair: number
  finish: CaptureFinish
  deadline_ms: number
  stored_bytes_max: number | null
  size_bytes: number | null
  sector_bytes: number | null
  frames: number
  stored_bytes: number
  /** Of the frames that have come; see model/capture.ts. */
  chain: string
  /** What the agent said of disk and hygiene at the end, as JSON of the contract's CaptureReport. */
  report: string | null
  digest: string | null
}

/** The order of an erasure. */
export type ErasureRow = {
  deployment_id: number
  method: ErasingMethod
  disk: string | null
  finish: EraseFinish
  deadline_ms: number
  /** What the agent said at the end, as JSON of the contract's EraseReport. */
  report: string | null
}

export type EventRow = {
  id: Generated<number>
  at: number
  source: string
  kind: string
  host_id: number | null
  deployment_id: number | null
  text: string
}

export type TaskRow = {
  id: Generated<number>
  kind: 'publish-image' | 'reboot'
  subject: string
  state: 'running' | 'done' | 'failed'
  done_bytes: number
  total_bytes: number | null
  failure: string | null
  started_at: number
  ended_at: number | null
  /** The process that works on it; a new process finds the ones that died with theirs. */
  owner: string
}

/** The caps of what crosses into and out of a site; null is no cap. */
export type SiteRow = {
  id: Generated<number>
  name: string
  egress_bytes_per_second: number | null
  ingress_bytes_per_second: number | null
}

/** What hosts with the target `netboot:<name>` boot, as JSON of model/profile.ts. */
export type ProfileRow = { id: Generated<number>; name: string; json: string; changed_at: number }

/** One host of a task that switches machines to what their boot records say. */
export type RebootRow = {
  task_id: number
  host_id: number
  /** What it is to boot. */
  target: BootTarget
  /** The boot record's `changed_at` at that time: another one means that somebody has set it anew. */
  record_changed_at: number
  state: RebootState
  /** What happened last, in words. */
  said: string | null
  failure: string | null
  /** When its controller was first asked. */
  began_at: number | null
  due_at: number
  deadline_at: number | null
  lease_owner: string | null
  lease_until: number
}

/** The signed proof of a deployment. It names no host by number: it outlives the host and the deployment. */
export type ProofRow = {
  deployment_id: number
  host: string
  signed_at: number
  document: string
  signature: string
  public_key: string
}

/** A call with an idempotency key: what it was, and what it answered as soon as it has happened. */
export type OnceCallRow = {
  id: Generated<number>
  caller: string
  idempotency_key: string
  operation: string
  /** Of its input, by the key outside the database: an input can hold a password. */
  input_mac: string
  /** JSON; null while the call is under way, or since it died. */
  answer: string | null
  /** A random word of whoever runs the call, until `lease_until`. */
  claim: string
  lease_until: number
  expires_at: number
}

/** Where events are sent. Its queue is the events themselves: `last_event_id` is the last one that it is done with. */
export type WebhookRow = {
  id: Generated<number>
  name: string
  url: string
  sealed_secret: string
  /** As JSON; empty for every kind. */
  kinds: string
  nodeset: string | null
  is_enabled: number
  last_event_id: number
  /** In a row, since the last delivery that was taken. */
  failures: number
  /** What its last failed delivery met. */
  said: string | null
  due_at: number
  lease_owner: string | null
  lease_until: number
}

/** An event that a webhook was not told of in time. */
export type DeadDeliveryRow = {
  id: Generated<number>
  webhook_id: number
  event_id: number
  died_at: number
  said: string
}

/** A machine that asked for something and whose MAC address belongs to no host. */
export type DiscoveredRow = {
  id: Generated<number>
  mac: string
  state: DiscoveredState
  first_seen_at: number
  last_seen_at: number
  sightings: number
  source: string
  said: string
  /** A random word that the token of its report is derived from, and when it was made. */
  nonce: string | null
  armed_at: number | null
  /** The agent that used the token: it may ask again, no other may. */
  agent: string | null
  /** The inventory in one line. */
  found: string | null
  /** As JSON of the contract's Inventory. */
  inventory: string | null
  inventory_at: number | null
  /** From the pool, good until `leased_until`. */
  ip: string | null
  leased_until: number | null
}

/** What the administrator has set for the whole service. */
export type SettingRow = { name: string; value: string }
/** Somebody who may log in. */
export type UserRow = {
  id: Generated<number>
  name: string
  role: Role
  /** As lib/password.ts writes it; null for who has none. */
  password: string | null
  /** Issuer and subject of who comes by OpenID Connect: a name can be given to another there, a subject cannot. */
  oidc_subject: string | null
  is_disabled: number
  created_at: number
  changed_at: number
  last_login_at: number | null
}

/** A word that proves who calls; only its digest is kept. Once revoked, or its user removed, there is no row. */
export type TokenRow = {
  id: Generated<number>
  kind: 'api' | 'login' | 'session'
  name: string
  /** Null when it is the administrator's of the unix socket. */
  user_id: number | null
  /** SHA-256 of the word, hex. */
  hash: string
  role: Role
  nodeset: string | null
  site: string | null
  created_at: number
  expires_at: number
  /** Unused for so long it is no longer good; null without that bound. */
  idle_ms: number | null
  /** To the minute. */
  last_used_at: number
}

/** A call that changed something, or tried to. */
export type AuditRow = {
  id: Generated<number>
  at: number
  user_name: string
  role: Role | null
  via: string
  address: string
  operation: string
  target: string
  outcome: 'begun' | 'ok' | FailureCode
  ended_at: number | null
  request: string
}

/** Who of several services does this, and until when nobody else may. */
export type LeaseRow = { name: string; owner: string; until: number }
