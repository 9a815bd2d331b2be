// `hades up`: all services in one process. Reads its options, opens, wires, serves, closes; nothing else.
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { execa } from 'execa'
import { type DhcpServer, startDhcpServer } from '../boot/dhcp-server.ts'
import { addBootRoutes } from '../boot/http-boot.ts'
import { type BootRecorder, bootRecorder } from '../boot/record.ts'
import { type BootFolders, bootFile, bootResolver } from '../boot/resolve.ts'
import { poolReservations } from '../boot/strangers.ts'
import { startTftpServer } from '../boot/tftp-server.ts'
import { inProcess } from '../client/client.ts'
import { controlPort } from '../contract/control.ts'
import type { PortClient } from '../contract/operation.ts'
import { powerPort } from '../contract/power.ts'
import { servicePort } from '../contract/service.ts'
import { bootByMac } from '../db/boot.ts'
import { addEvent } from '../db/events.ts'
import { signImages } from '../db/images.ts'
import { openDatabase } from '../db/open.ts'
import { startConductor } from '../deploy/conductor.ts'
import { startEngine } from '../deploy/engine.ts'
import { startRebooter } from '../deploy/rebooter.ts'
import { openLibrary } from '../image/library.ts'
import { TokenBucket } from '../lib/rate-limit.ts'
import { steadyClock } from '../lib/steady-clock.ts'
import { targetNow } from '../model/boot.ts'
import { poolAddresses } from '../model/discovery.ts'
import { Failure } from '../model/failure.ts'
import { signDigest } from '../model/image-signature.ts'
import { bootPathOf } from '../model/profile.ts'
import { newAttempts } from '../operations/attempts.ts'
import { overseer } from '../operations/audit.ts'
import { userAuthenticator } from '../operations/authenticate.ts'
import { captureIntake } from '../operations/capture-intake.ts'
import { startCaptureSweep } from '../operations/captures.ts'
import { controlHandlers } from '../operations/control.ts'
import { eventItems } from '../operations/events.ts'
import { startHousekeeping } from '../operations/housekeeping.ts'
import { failInterruptedTasks } from '../operations/images.ts'
import { onceRunner } from '../operations/once.ts'
import { powerHandlers } from '../operations/power.ts'
import { keepProofIfProven } from '../operations/proof.ts'
import { serviceHandlers } from '../operations/service.ts'
import { version } from '../operations/version.ts'
import { startWebhookSender } from '../operations/webhook-sender.ts'
import type { World } from '../operations/world.ts'
import { addAuthRoutes } from '../ports/auth-routes.ts'
import { addCaptureFrames } from '../ports/capture-frames.ts'
import { served } from '../ports/dispatch.ts'
import { servePorts } from '../ports/http.ts'
import { addOriginRoutes } from '../swarm/origin-routes.ts'
import { browserLogins } from './browser-logins.ts'
import { type Certificates, serviceCertificates, speaksTls, type TlsOptions } from './certificates.ts'
import type { Config } from './config-schema.ts'
import { type DataFolder, openDataFolder } from './data-folder.ts'
import { databasePlace } from './database-option.ts'
import { openLog } from './log.ts'
import { countedRecorder } from './metrics.ts'
import { systemdNotifier } from './notify.ts'
import { machineChecks } from './preflight.ts'
import { swarmServices } from './swarm-services.ts'
import { startUpkeep } from './upkeep.ts'
import { startWatching, type Watching } from './watching.ts'

/** Lets what is under way end within `graceMs` (0), then closes everything. */
export type Hadesd = { readonly close: (graceMs?: number) => Promise<void> }

/** What closes what was opened, the last first; and before that, all at once, what lets work under way end. */
class Closing {
  readonly #steps: (() => Promise<void>)[] = []
  readonly #drains: ((graceMs: number) => Promise<void>)[] = []

  add(step: () => Promise<void>, drain?: (graceMs: number) => Promise<void>): void {
    this.#steps.unshift(step)
    if (drain) this.#drains.push(drain)
  }

  async close(graceMs = 0): Promise<void> {
    await Promise.all(this.#drains.splice(0).map((drain) => drain(graceMs)))
    for (const step of this.#steps.splice(0)) await step()
  }
}

/** Starts all services; prints where they listen. Throws Failure for what the operator can mend. */
export async function startHadesd(options: Config): Promise<Hadesd> {
  const log = openLog(options.log.level)
  const folder = await openDataFolder(options.data)
  const closing = new Closing()
  try {
    const tls = await serviceCertificates(tlsOptionsOf(options), folder)
    const db = await openDatabase(databasePlace(options))
    closing.add(() => db.destroy())
    const bootBase = options.address === undefined ? '' : `http://${options.address}:${options.http.port}`
    const folders = { loaders: resolve(options.loaders), scout: resolve(options.scout), netboot: folder.netboot }
    const stage2Sha256 = options.address === undefined ? undefined : await stage2Sha256Of(folders.scout)
    const world: World = {
      db,
      keyring: folder.keyring,
      signingKey: folder.signingKey,
      library: await openLibrary(folder.library, options.library.quota),
      log,
      now: steadyClock(),
      owner: folder.owner,
      startedAt: Date.now(),
      confirmAbove: options.confirmAbove,
      bootBase,
      bootFiles: {
        netboot: folder.netboot,
        has: async (profile, file) => (await bootFile(folders, bootPathOf(profile, file))) !== undefined,
      },
      machineChecks: () => machineChecks(machineSideOf(options, folders, stage2Sha256)),
      allowsLocalWebhooks: options.localWebhooks,
      adminToken: folder.adminToken,
      attempts: newAttempts(),
      keepKeys: folder.keepKeys,
      certificate: () => tls?.view(),
      services: servicesOf(options, folder),
    }
    await failInterruptedTasks(world)
    if (folder.isSigningKeyNew) await signImages(db, (digest) => signDigest(folder.signingKey, digest))
    const watching = await startWatching(world, options)
    const { metrics, readiness } = watching
    closing.add(
      () => readiness.close(),
      async () => readiness.stopping(),
    )
    const power = metrics.power(powerHandlers(world))
    const sender = startWebhookSender(world)
    closing.add(() => sender.close())
    const sweep = startCaptureSweep(world)
    closing.add(() => sweep.close())
    const housekeeping = startHousekeeping(world, { retention: options.retention, onRemoved: metrics.removed })
    closing.add(() => housekeeping.close())
    // The boot services first: a port that is taken must fail before any machine is switched.
    if (options.address !== undefined && stage2Sha256 !== undefined) {
      await serveMachines({ world, options, folders, watching, stage2Sha256, tls }, options.address, closing)
    }
    const powerClient = inProcess(powerPort, power)
    await startWorkers(world, { power: powerClient, watching }, closing)
    await serveControl({ world, options, folder, tls, power, watching }, closing)
    readiness.bound(world.services.map(({ name }) => name))
    const text = `HaDeS ${version} was started`
    await addEvent(db, { source: 'service', kind: 'started', text }, world.now())
    log.info({ services: world.services, data: folder.path }, 'HaDeS is up')
    return { close: (graceMs) => closing.close(graceMs) }
  } catch (error) {
    await closing.close()
    throw error
  }
}

/** The loops that move deployments, rollouts and reboots forward. */
async function startWorkers(
  world: World,
  { power, watching }: { power: PortClient<typeof powerPort.operations>; watching: Watching },
  closing: Closing,
): Promise<void> {
  const engine = await startEngine({
    ...world,
    power,
    keepProof: (id) => keepProofIfProven(world, id),
    onRound(round) {
      watching.metrics.round(round)
      watching.readiness.round(round)
    },
  })
  closing.add(engine.close, engine.close)
  const conductor = startConductor(world)
  closing.add(conductor.close, conductor.close)
  const rebooter = await startRebooter({ ...world, power })
  closing.add(rebooter.close, rebooter.close)
}

type ControlParts = {
  readonly world: World
  readonly options: Config
  readonly watching: Watching
  readonly folder: DataFolder
  readonly tls: Certificates | undefined
  readonly power: ReturnType<typeof powerHandlers>
}

/** The Control and Power Ports, for people and programs, and what keeps their users, keys and certificates in order. */
async function serveControl(
  { world, options, folder, tls, power, watching }: ControlParts,
  closing: Closing,
): Promise<void> {
  const { log } = world
  const logins = await browserLogins(world, options, controlUrl(options))
  const upkeep = startUpkeep(world, async () => tls?.renew())
  closing.add(() => upkeep.close())
  const server = await servePorts({
    ports: [served(controlPort, controlHandlers(world), { streamEvents: eventItems(world) }), served(powerPort, power)],
    listen: [
      { socketPath: folder.socket },
      { ...options.control, ...(tls && speaksTls(tlsOptionsOf(options)) ? { tls } : {}) },
    ],
    authenticate: userAuthenticator(world),
    oversight: overseer(world),
    routes: [watching.healthRoutes, watching.metricsRoutes, (app, face) => addAuthRoutes(app, face, logins)],
    watch: watching.metrics.watch,
    log,
    runOnce: onceRunner(world),
    version,
  })
  closing.add(() => server.close(), server.drain)
}

function tlsOptionsOf(options: Config): TlsOptions {
  return { ...options, address: options.address, controlHost: options.control.host }
}

function controlUrl(options: Config): string {
  const { host, port } = options.control
  return `${speaksTls(tlsOptionsOf(options)) ? 'https' : 'http'}://${host}:${port}`
}

/** What preflight looks at. */
function machineSideOf(
  { address, dhcp, http, tftp }: Config,
  folders: BootFolders,
  stage2Sha256: string | undefined,
): Parameters<typeof machineChecks>[0] {
  return { ...folders, address, dhcp, httpPort: http.port, tftpPort: tftp.port, stage2Sha256 }
}

function servicesOf(options: Config, folder: DataFolder): World['services'] {
  const { address, http, tftp } = options
  const control = `${controlUrl(options)}, ${folder.socket}`
  return [
    { name: 'control', listens: control },
    ...(address === undefined
      ? []
      : [
          { name: 'service', listens: `http://${address}:${http.port}` },
          { name: 'tftp', listens: `${address}:${tftp.port}` },
          ...(options.dhcp === 'full' ? [{ name: 'dhcp', listens: `${address}:67` }] : []),
        ]),
  ]
}

type MachineServices = {
  readonly world: World
  readonly options: Config
  readonly folders: BootFolders
  readonly watching: Watching
  readonly stage2Sha256: string
  readonly tls: Certificates | undefined
}

/** Everything that machines talk to: DHCP, TFTP, HTTP boot, the Service Port and the images. */
async function serveMachines(
  { world, options, folders, watching, stage2Sha256, tls }: MachineServices,
  address: string,
  closing: Closing,
): Promise<void> {
  const { db, log, now, keyring, bootBase, library } = world
  const { serviceTlsPort: port } = options
  const tlsPort = port === undefined || !tls ? undefined : { host: address, port, tls }
  const { metrics } = watching
  const recorder = countedRecorder(
    metrics,
    bootRecorder(db, {
      now,
      onLost: (error, text) => log.error({ err: error, text }, 'an event was lost'),
      onHeldUp: (error) => log.warn({ err: error }, 'events of machines wait for the database'),
    }),
  )
  const resolveBoot = bootResolver({
    db,
    now,
    keyring,
    folders,
    stage2Sha256,
    httpBase: bootBase,
    pinned: tlsPort && { url: `https://${address}:${tlsPort.port}`, fingerprint: tlsPort.tls.view().fingerprint },
    imageKey: world.signingKey.publicKey,
    scoutArgs: await scoutArgs(options.scoutKey),
    onScript: recorder.script,
    onStranger: recorder.stranger,
  })
  closing.add(() => recorder.close())
  // One for HTTP and for the seeder: it caps what leaves, whoever asks.
  const { rate } = options.origin
  const egress = rate === undefined ? undefined : new TokenBucket({ bytesPerSecond: rate, burstBytes: rate / 10 })
  const swarm = await swarmServices(world, {
    isOpen: options.openSwarm,
    address,
    seederPort: options.seeder.port,
    egress,
  })
  closing.add(() => swarm.close())
  const server = await servePorts({
    ports: [served(servicePort, serviceHandlers(world))],
    listen: [{ host: address, port: options.http.port }, ...(tlsPort ? [tlsPort] : [])],
    authenticate: ({ token, address: peer }) =>
      token === undefined ? undefined : { kind: 'bearer', token, address: peer },
    log,
    version,
    watch: metrics.watch,
    routes: [
      watching.healthRoutes,
      (app) => addBootRoutes(app, resolveBoot, recorder.http),
      (app) => addOriginRoutes(app, { library, baseUrl: bootBase, egress, sentBytes: metrics.sentBytes }),
      (app) => swarm.addRoutes(app),
      (app) => addCaptureFrames(app, captureIntake(world).takeFrame),
    ],
  })
  closing.add(() => server.close(), server.drain)
  const tftp = await startTftpServer({ address, port: options.tftp.port, resolve: resolveBoot, onEvent: recorder.tftp })
  closing.add(
    () => tftp.close(),
    (graceMs) => tftp.drain(graceMs),
  )
  if (options.dhcp === 'off') return
  const dhcp = await serveDhcp(world, { ...options, address }, recorder)
  closing.add(() => dhcp.close())
}

async function serveDhcp(
  { db, log, now, bootBase }: World,
  { address, router, dhcpPool }: Pick<Config, 'router' | 'dhcpPool'> & { readonly address: string },
  recorder: BootRecorder,
): Promise<DhcpServer> {
  const prefixLength = await prefixLengthOf(address)
  const pool = dhcpPool === undefined ? [] : poolAddresses(dhcpPool, { address, prefixLength })
  const poolReservation = poolReservations({ db, now }, pool)
  return await startDhcpServer({
    mode: 'full',
    config: {
      serverAddress: address,
      prefixLength,
      router,
      leaseSeconds: 3600,
      httpBase: bootBase,
      tftpServer: address,
    },
    lookup: async (mac, asker) => {
      const view = await bootByMac(db, mac)
      if (!view) return pool.length === 0 ? undefined : await poolReservation(mac, asker)
      if (view.ip === null) return undefined
      return {
        host: view.host,
        hostId: view.hostId,
        address: view.ip,
        bootTarget: targetNow(view.record, now()),
        loader: view.loader,
      }
    },
    onEvent: (event) => {
      if (event.kind === 'dhcp.failed') log.error({ err: event.cause, text: event.text }, 'a DHCP request failed')
      recorder.dhcp(event)
    },
  })
}

/**
 * The prefix of the network that this machine has `address` in. Failure when it has no such address. Node's own list leaves
 * out interfaces whose link is down, as a bridge is before the first machine is switched on; iproute2 does not.
 */
async function prefixLengthOf(address: string): Promise<number> {
  const { stdout } = await execa('ip', ['-json', '-4', 'address', 'show'])
  const interfaces = JSON.parse(stdout) as readonly {
    readonly addr_info?: readonly { readonly local?: string; readonly prefixlen?: number }[]
  }[]
  for (const { addr_info = [] } of interfaces) {
    const found = addr_info.find(({ local }) => local === address)
    if (found?.prefixlen !== undefined) return found.prefixlen
  }
  throw new Failure('bad-input', `this machine has no address ${address}`, { at: '--address' })
}

async function stage2Sha256Of(folder: string): Promise<string> {
  const file = join(folder, 'scout.json')
  try {
    const { files } = JSON.parse(await readFile(file, 'utf8')) as {
      files: Readonly<Record<string, { sha256: string }>>
    }
    const sha256 = files['stage2.squashfs']?.sha256
    if (sha256 === undefined) throw new Error('it names no stage2.squashfs')
    return sha256
  } catch (cause) {
    throw new Failure('bad-input', `there is no scout in ${folder}: build it with \`make build\``, {
      cause,
      at: '--scout',
    })
  }
}

async function scoutArgs(keyFile: string | undefined): Promise<string[]> {
  if (keyFile === undefined) return []
  const line = (await readFile(keyFile, 'utf8')).trim()
  return [`hades.ssh_key=${Buffer.from(line).toString('base64url')}`]
}

/** Runs until a signal ends it; a second one ends it at once. */
export async function runHadesd(options: Config): Promise<void> {
  const hadesd = await startHadesd(options)
  const notifier = systemdNotifier(process.env, openLog(options.log.level))
  const signals = ['SIGTERM', 'SIGINT'] as const
  const told = new Promise<void>((done) => {
    for (const signal of signals) {
      process.on(signal, () => done())
    }
  })
  await notifier.ready()
  await told
  for (const signal of signals) process.removeAllListeners(signal).once(signal, () => process.exit(130))
  await notifier.stopping()
  await hadesd.close(options.stop.grace)
  notifier.close()
}
