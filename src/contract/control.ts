// The Control Port: for people and for the programs that orchestrate (paper, section II.B).
import { Type } from 'typebox'
import { hostSorts } from '../model/host.ts'
import { bootRecord, profile, profileFields, profileName } from './boot-types.ts'
import { capture, captureOrder } from './capture-types.ts'
import { discoveryOperations } from './discovery.ts'
import { eraseOrder, erasure } from './erase-types.ts'
import { eventOperations, eventStream } from './events.ts'
import { explainOperations } from './explain-types.ts'
import { hostFileOperations } from './host-file-types.ts'
import { imageOperations } from './image-types.ts'
import { operation, type Port } from './operation.ts'
import { pageInput, pageOutput } from './paging.ts'
import { preflightOperations } from './preflight-types.ts'
import { proofOperations } from './proof-types.ts'
import { protectedMeant, rolloutFields, rolloutPlan } from './rollout-types.ts'
import { rolloutOperations } from './rollouts.ts'
import { setupOperations } from './setups.ts'
import { site, swarm } from './swarm-types.ts'
import {
  bootTarget,
  bytes,
  deployment,
  deploymentState,
  host,
  hostName,
  id,
  imageReference,
  label,
  loader,
  mac,
  networkInterface,
  nodeset,
  powerMethod,
  rateLimit,
  redeployMode,
  rollout,
  setupReference,
  task,
  taskState,
  transferEngine,
  words,
} from './types.ts'
import { userOperations } from './users.ts'

/** What may be said of a host and need not. */
const hostFields = {
  site: Type.Optional(label),
  rack: Type.Optional(label),
  loader: Type.Optional(loader),
  setup: Type.Optional(setupReference),
  defaultTarget: Type.Optional(bootTarget),
  protected: Type.Optional(
    Type.String({
      maxLength: 190,
      description: 'Why no rollout and no erasure may take it unless it is named as meant; empty: it is not protected',
    }),
  ),
}

// A part of a URL's path: `.` and `..` would be taken out of it.
const siteName = Type.String({
  title: 'SiteName',
  maxLength: 190,
  pattern: '^[A-Za-z0-9À-ɏ][A-Za-z0-9À-ɏ ._-]*$',
  description: 'A site: letters, digits, blanks, `.`, `_` and `-`, beginning with a letter or digit',
})

export const controlOperations = {
  getStatus: operation({
    summary: 'What runs here, since when, and how much of everything there is',
    access: 'viewer',
    rest: { method: 'GET', path: '/status' },
    input: Type.Object({}),
    output: Type.Object({
      version: Type.String(),
      startedAt: Type.String({ format: 'date-time' }),
      hosts: Type.Integer(),
      images: Type.Integer(),
      setups: Type.Integer(),
      states: Type.Array(Type.Object({ state: deploymentState, count: Type.Integer() })),
      freeBytes: bytes,
      services: Type.Array(Type.Object({ name: Type.String(), listens: Type.String() })),
    }),
    failures: [],
  }),

  addHost: operation({
    summary: 'Makes a host known, with its interfaces and power methods',
    access: 'admin',
    rest: { method: 'POST', path: '/hosts' },
    input: Type.Object({
      name: hostName,
      ...hostFields,
      interfaces: Type.Array(networkInterface, { minItems: 1, maxItems: 32 }),
      powerMethods: Type.Array(powerMethod, { maxItems: 8 }),
    }),
    output: Type.Object({ host }),
    once: 'recorded',
    failures: ['already-exists', 'unknown-driver', 'unknown-setup', 'unknown-profile'],
  }),
  changeHost: operation({
    summary: 'Changes what is given of a host; lists replace the old list whole',
    access: 'admin',
    rest: { method: 'PATCH', path: '/hosts/{name}' },
    input: Type.Object({
      name: hostName,
      ...hostFields,
      interfaces: Type.Optional(Type.Array(networkInterface, { maxItems: 32 })),
      powerMethods: Type.Optional(Type.Array(powerMethod, { maxItems: 8 })),
    }),
    output: Type.Object({ host }),
    failures: ['unknown-host', 'already-exists', 'unknown-driver', 'unknown-setup', 'unknown-profile', 'wrong-state'],
  }),
  removeHost: operation({
    summary: 'Forgets a host that no deployment is working on',
    access: 'admin',
    rest: { method: 'DELETE', path: '/hosts/{name}' },
    input: Type.Object({ name: hostName }),
    output: Type.Object({}),
    failures: ['unknown-host', 'in-use'],
  }),
  getHost: operation({
    summary: 'One host with its interfaces, power methods, boot record and inventory',
    access: 'viewer',
    rest: { method: 'GET', path: '/hosts/{name}' },
    input: Type.Object({ name: hostName }),
    output: Type.Object({ host }),
    failures: ['unknown-host'],
  }),
  listHosts: operation({
    summary: 'Hosts, all or those of a nodeset, a site, a rack, a state',
    access: 'viewer',
    rest: { method: 'GET', path: '/hosts' },
    input: Type.Object({
      nodeset: Type.Optional(nodeset),
      site: Type.Optional(label),
      rack: Type.Optional(label),
      setup: Type.Optional(setupReference),
      target: Type.Optional(bootTarget),
      state: Type.Optional(deploymentState),
      mac: Type.Optional(mac),
      sort: Type.Optional(words(hostSorts, { description: '`name` if not said; `place`: site, rack, name' })),
      ...pageInput(),
    }),
    output: Type.Object({ hosts: Type.Array(host), ...pageOutput }),
    failures: ['unknown-host'],
  }),

  ...hostFileOperations,

  ...discoveryOperations,

  setSite: operation({
    summary: 'Sets the limits of a site, for transfers that begin from now on; what is not given is not limited',
    access: 'admin',
    rest: { method: 'PUT', path: '/sites/{name}' },
    input: Type.Object({
      name: siteName,
      egressBytesPerSecond: Type.Optional(rateLimit('Cap of what leaves the site')),
      ingressBytesPerSecond: Type.Optional(rateLimit('Cap of what comes into the site')),
    }),
    output: Type.Object({ site }),
    failures: [],
  }),
  listSites: operation({
    summary: 'Sites that hosts stand in or that have limits',
    access: 'viewer',
    rest: { method: 'GET', path: '/sites' },
    input: Type.Object(pageInput()),
    output: Type.Object({ sites: Type.Array(site), ...pageOutput }),
    failures: [],
  }),

  ...setupOperations,

  ...imageOperations,
  ...userOperations,

  getTask: operation({
    summary: 'How far a long operation is, and how it ended',
    access: 'viewer',
    rest: { method: 'GET', path: '/tasks/{task}' },
    input: Type.Object({ task: id }),
    output: Type.Object({ task }),
    failures: ['unknown-task'],
  }),
  listTasks: operation({
    summary: 'Long operations, newest first',
    access: 'viewer',
    rest: { method: 'GET', path: '/tasks' },
    input: Type.Object({ state: Type.Optional(taskState), ...pageInput() }),
    output: Type.Object({ tasks: Type.Array(task), ...pageOutput }),
    failures: [],
  }),

  setBoot: operation({
    summary:
      'Sets what hosts boot next, in one transaction; for one boot, or as the default too; with `reboot` switches them',
    access: 'operator',
    rest: { method: 'POST', path: '/boot' },
    input: Type.Object({
      nodeset,
      target: bootTarget,
      asDefault: Type.Optional(Type.Boolean({ description: 'As the default too' })),
      once: Type.Optional(Type.Boolean({ description: 'For one boot; then the default again' })),
      reboot: Type.Optional(
        Type.Boolean({
          description: 'Power-cycles the hosts too: watch the task that is returned, it has a row a host',
        }),
      ),
    }),
    output: Type.Object({ records: Type.Array(bootRecord), task: Type.Optional(task) }),
    once: 'recorded',
    failures: ['unknown-host', 'unknown-profile', 'wrong-state'],
  }),
  listBoot: operation({
    summary: 'The boot records of hosts',
    access: 'viewer',
    rest: { method: 'GET', path: '/boot' },
    input: Type.Object({ nodeset: Type.Optional(nodeset), target: Type.Optional(bootTarget), ...pageInput() }),
    output: Type.Object({ records: Type.Array(bootRecord), ...pageOutput }),
    failures: ['unknown-host'],
  }),

  putProfile: operation({
    summary: "Stores a netboot profile whose files lie in its folder, `netboot/<name>` of the service's data folder",
    access: 'admin',
    rest: { method: 'PUT', path: '/profiles/{name}' },
    input: Type.Object({ name: profileName, ...profileFields }),
    output: Type.Object({ profile }),
    failures: [],
  }),
  getProfile: operation({
    summary: 'One netboot profile',
    access: 'viewer',
    rest: { method: 'GET', path: '/profiles/{name}' },
    input: Type.Object({ name: profileName }),
    output: Type.Object({ profile }),
    failures: ['unknown-profile'],
  }),
  listProfiles: operation({
    summary: 'Netboot profiles',
    access: 'viewer',
    rest: { method: 'GET', path: '/profiles' },
    input: Type.Object(pageInput()),
    output: Type.Object({ profiles: Type.Array(profile), ...pageOutput }),
    failures: [],
  }),
  removeProfile: operation({
    summary: 'Forgets a netboot profile that no boot record names; its files stay',
    access: 'admin',
    rest: { method: 'DELETE', path: '/profiles/{name}' },
    input: Type.Object({ name: profileName }),
    output: Type.Object({}),
    failures: ['unknown-profile', 'in-use'],
  }),

  startRollout: operation({
    summary: 'Deploys a setup to hosts: switches their power, boots the scout, writes, proves, reboots, observes',
    access: 'operator',
    rest: { method: 'POST', path: '/rollouts' },
    input: Type.Object({
      ...rolloutFields,
      engine: Type.Optional(transferEngine),
      redeploy: Type.Optional(redeployMode),
      egressBytesPerSecond: Type.Optional(rateLimit('Cap of what each host sends to peers')),
      ingressBytesPerSecond: Type.Optional(rateLimit('Cap of what each host receives of the image')),
    }),
    output: Type.Object({ rollout }),
    once: 'recorded',
    failures: [
      'unknown-host',
      'unknown-setup',
      'unknown-image',
      'unknown-script',
      'unknown-profile',
      'no-power-method',
      'wrong-state',
      'setup-invalid',
      'disk-none',
      'disk-ambiguous',
      'disk-changed',
      'image-too-large',
      'host-protected',
      'confirm-needed',
    ],
  }),
  planRollout: operation({
    summary: 'What startRollout would do to each host, and what would keep it from starting; starts nothing',
    access: 'viewer',
    rest: { method: 'POST', path: '/rollouts/plan' },
    input: Type.Object(rolloutFields),
    output: Type.Object({ plan: rolloutPlan }),
    failures: ['unknown-host', 'unknown-setup', 'unknown-image', 'unknown-script', 'unknown-profile', 'setup-invalid'],
  }),
  getRollout: operation({
    summary: 'A rollout with the deployment of each host',
    access: 'viewer',
    rest: { method: 'GET', path: '/rollouts/{rollout}' },
    input: Type.Object({ rollout: id }),
    output: Type.Object({ rollout }),
    failures: ['unknown-rollout'],
  }),
  listRollouts: operation({
    summary: 'Rollouts, newest first',
    access: 'viewer',
    rest: { method: 'GET', path: '/rollouts' },
    input: Type.Object({
      active: Type.Optional(
        Type.Boolean({ description: 'Only those that have not ended; false: only those that have' }),
      ),
      ...pageInput({ usual: 20 }),
    }),
    output: Type.Object({ rollouts: Type.Array(rollout), ...pageOutput }),
    failures: [],
  }),
  getSwarm: operation({
    summary: 'How the image spreads in a rollout, the newest that is under way unless one is named',
    access: 'viewer',
    rest: { method: 'GET', path: '/swarm' },
    input: Type.Object({
      rollout: Type.Optional(id),
      limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100_000, description: 'No more hosts than this' })),
    }),
    output: Type.Object({ swarm }),
    failures: ['unknown-rollout'],
  }),
  cancelRollout: operation({
    summary:
      'Stops the deployments of a rollout that have not ended, all or those of a nodeset; their boot records go back to the default',
    access: 'operator',
    rest: { method: 'POST', path: '/rollouts/{rollout}/cancel' },
    input: Type.Object({
      rollout: id,
      nodeset: Type.Optional(nodeset),
      reboot: Type.Optional(
        Type.Boolean({
          description:
            'Power-cycles those that were under way into what they boot by default: watch the task that is returned. Without it no power is switched',
        }),
      ),
    }),
    output: Type.Object({ rollout, task: Type.Optional(task) }),
    once: 'recorded',
    failures: ['unknown-rollout', 'unknown-host'],
  }),
  ...rolloutOperations,
  getDeployment: operation({
    summary: 'One deployment: where it is, what it waits for, how it ended, and its proof',
    access: 'viewer',
    rest: { method: 'GET', path: '/deployments/{deployment}' },
    input: Type.Object({ deployment: id }),
    output: Type.Object({ deployment }),
    failures: ['unknown-deployment'],
  }),
  listDeployments: operation({
    summary: 'Deployments, newest first: of a rollout, of hosts, in a state',
    access: 'viewer',
    rest: { method: 'GET', path: '/deployments' },
    input: Type.Object({
      rollout: Type.Optional(id),
      nodeset: Type.Optional(nodeset),
      state: Type.Optional(deploymentState),
      ...pageInput(),
    }),
    output: Type.Object({ deployments: Type.Array(deployment), ...pageOutput }),
    failures: ['unknown-rollout', 'unknown-host'],
  }),

  startCapture: operation({
    summary: 'Makes an image of a disk of a host: boots the scout, reads what is used, publishes it',
    access: 'operator',
    rest: { method: 'POST', path: '/captures' },
    input: Type.Object({
      host: hostName,
      image: imageReference,
      ...captureOrder,
      storedBytesMax: Type.Optional(Type.Integer({ minimum: 1, description: 'No more than this in the library' })),
      deadlineSeconds: Type.Optional(Type.Integer({ minimum: 60, maximum: 30 * 86_400 })),
    }),
    output: Type.Object({ capture }),
    once: 'recorded',
    failures: ['unknown-host', 'already-exists', 'no-power-method', 'wrong-state', 'library-full'],
  }),
  getCapture: operation({
    summary: 'One capture: where it is, what was found in the system, how it ended',
    access: 'viewer',
    rest: { method: 'GET', path: '/captures/{deployment}' },
    input: Type.Object({ deployment: id }),
    output: Type.Object({ capture }),
    failures: ['unknown-deployment'],
  }),
  listCaptures: operation({
    summary: 'Captures, newest first, all or those of hosts',
    access: 'viewer',
    rest: { method: 'GET', path: '/captures' },
    input: Type.Object({ nodeset: Type.Optional(nodeset), ...pageInput({ usual: 20 }) }),
    output: Type.Object({ captures: Type.Array(capture), ...pageOutput }),
    failures: ['unknown-host'],
  }),
  cancelCapture: operation({
    summary: 'Stops a capture that has not ended; what has come of the disk is removed',
    access: 'operator',
    rest: { method: 'POST', path: '/captures/{deployment}/cancel' },
    input: Type.Object({ deployment: id }),
    output: Type.Object({ capture }),
    failures: ['unknown-deployment'],
  }),

  startErase: operation({
    summary: 'Erases disks of hosts: boots the scout, erases, reads what is left; what they held is lost',
    access: 'operator',
    rest: { method: 'POST', path: '/erasures' },
    input: Type.Object({
      nodeset,
      ...eraseOrder,
      confirm: Type.Integer({
        minimum: 0,
        description: 'How many hosts are meant: it is refused when they are not so many',
      }),
      max: Type.Optional(Type.Integer({ minimum: 1, maximum: 100_000 })),
      includeProtected: protectedMeant,
      deadlineSeconds: Type.Optional(Type.Integer({ minimum: 60, maximum: 30 * 86_400 })),
    }),
    output: Type.Object({ rollout }),
    once: 'recorded',
    failures: ['unknown-host', 'no-power-method', 'wrong-state', 'host-protected'],
  }),
  getErasure: operation({
    summary: "One host's disks being erased: where it is, and what was read before and after",
    access: 'viewer',
    rest: { method: 'GET', path: '/erasures/{deployment}' },
    input: Type.Object({ deployment: id }),
    output: Type.Object({ erasure }),
    failures: ['unknown-deployment'],
  }),

  ...explainOperations,
  ...proofOperations,
  ...preflightOperations,

  ...eventOperations,
}

export const controlPort: Port<typeof controlOperations> = {
  name: 'control',
  summary: 'Control Port of HaDeS: hosts, setups, images, boot records, rollouts and events',
  namespace: 'urn:hades:control:1',
  operations: controlOperations,
  streams: { streamEvents: eventStream },
}
