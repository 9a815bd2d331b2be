// `hades up`: all services in one process. Reads its options, opens, wires, serves, closes; nothing else.
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { execa } from 'execa'
import pino from 'pino'
import { type DhcpServer, startDhcpServer } from '../boot/dhcp-server.ts'
import { addBootRoutes } from '../boot/http-boot.ts'
import { type BootRecorder, bootRecorder } from '../boot/record.ts'
import { type BootFolders, bootFile, bootResolver } from '../boot/resolve.ts'
import { startTftpServer } from '../boot/tftp-server.ts'
import { inProcess } from '../client/client.ts'
import { controlPort } from '../contract/control.ts'
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
import { targetNow } from '../model/boot.ts'
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
import { browserLogins, type OidcFlags } from './browser-logins.ts'
import { type Certificates, serviceCertificates, speaksTls, type TlsOptions } from './certificates.ts'
import { type DataFolder, openDataFolder } from './data-folder.ts'
import { databasePlace } from './database-option.ts'
import { machineChecks } from './preflight.ts'
import { swarmServices } from './swarm-services.ts'
import { startUpkeep } from './upkeep.ts'

export type UpOptions = OwnOptions & OidcFlags & Omit<TlsOptions, 'controlHost' | 'address'>

type OwnOptions = {
  readonly data: string
  readonly database?: string | undefined
  readonly databasePasswordFile?: string | undefined
  /** Our address on the machines' network; without it no machine is served. */
  readonly address: string | undefined
  readonly httpPort: number
  readonly tftpPort: number
  readonly dhcp: 'full' | 'off'
  readonly router: string | undefined
  /** Bytes a second of image.zst that leave this process, at most. */
  readonly originRate: number | undefined
  /** Where stock BitTorrent clients find the images. */
  readonly seederPort: number
  /** Anyone who has the torrent of a published image may join its swarm. */
  readonly openSwarm: boolean | undefined
  /** Where the Control and Power Ports listen for TCP, beside the unix socket. */
  readonly controlHost: string
  readonly controlPort: number
  /** Rollouts of more hosts than this must be confirmed. */
  readonly confirmAbove: number
  /** Bytes that all images together may have. */
  readonly libraryQuota: number | undefined
  readonly loaders: string
  readonly scout: string
  /** A file with one line of authorized_keys for the scout's SSH. */
  readonly scoutKey: string | undefined
  /** Webhooks may be on this machine itself. */
  readonly localWebhooks: boolean | undefined
  readonly logLevel: string
}

export type Hadesd = { readonly close: () => Promise<void> }

/** What closes what was opened, the last first. */
class Closing {
  readonly #steps: (() => Promise<void>)[] = []

  add(step: () => Promise<void>): void {
    this.#steps.unshift(step)
  }

  async close(): Promise<void> {
    for (const step of this.#steps.splice(0)) await step()
  }
}

/** Starts all services; prints where they listen. Throws Failure for what the operator can mend. */
export async function startHadesd(options: UpOptions): Promise<Hadesd> {
  const log = pino({ level: options.logLevel, redact: ['password', '*.password'] }, pino.destination(2))
  const folder = await openDataFolder(options.data)
  const closing = new Closing()
  try {
    const tls = await serviceCertificates(options, folder)
    const db = await openDatabase(databasePlace(options))
    closing.add(() => db.destroy())
    const bootBase = options.address === undefined ? '' : `http://${options.address}:${options.httpPort}`
    const folders = { loaders: resolve(options.loaders), scout: resolve(options.scout), netboot: folder.netboot }
    const stage2Sha256 = options.address === undefined ? undefined : await stage2Sha256Of(folders.scout)
    const world: World = {
      db,
      keyring: folder.keyring,
      signingKey: folder.signingKey,
      library: await openLibrary(folder.library, options.libraryQuota),
      log,
      now: Date.now,
      owner: folder.owner,
      startedAt: Date.now(),
      confirmAbove: options.confirmAbove,
      bootBase,
      bootFiles: {
        netboot: folder.netboot,
        has: async (profile, file) => (await bootFile(folders, bootPathOf(profile, file))) !== undefined,
      },
      machineChecks: () => machineChecks({ ...options, ...folders, stage2Sha256 }),
      allowsLocalWebhooks: options.localWebhooks,
      adminToken: folder.adminToken,
      attempts: newAttempts(),
      keepKeys: folder.keepKeys,
      certificate: () => tls?.view(),
      services: servicesOf(options, folder),
    }
    await failInterruptedTasks(world)
    if (folder.isSigningKeyNew) await signImages(db, (digest) => signDigest(folder.signingKey, digest))
    const power = powerHandlers(world)
    const sender = startWebhookSender(world)
    closing.add(() => sender.close())
    const sweep = startCaptureSweep(world)
    closing.add(() => sweep.close())
    // The boot services first: a port that is taken must fail before any machine is switched.
    if (options.address !== undefined && stage2Sha256 !== undefined) {
      await serveMachines({ world, options, folders, stage2Sha256, tls }, options.address, closing)
    }
    const powerClient = inProcess(powerPort, power)
    const engine = await startEngine({ ...world, power: powerClient, keepProof: (id) => keepProofIfProven(world, id) })
    closing.add(() => engine.close())
    const conductor = startConductor(world)
    closing.add(() => conductor.close())
    const rebooter = await startRebooter({ ...world, power: powerClient })
    closing.add(() => rebooter.close())
    await serveControl({ world, options, folder, tls, power }, closing)
    const text = `HaDeS ${version} was started`
    await addEvent(db, { source: 'service', kind: 'started', text }, world.now())
    log.info({ services: world.services, data: folder.path }, 'HaDeS is up')
    return { close: () => closing.close() }
  } catch (error) {
    await closing.close()
    throw error
  }
}

type ControlParts = {
  readonly world: World
  readonly options: UpOptions
  readonly folder: DataFolder
  readonly tls: Certificates | undefined
  readonly power: ReturnType<typeof powerHandlers>
}

/** The Control and Power Ports, for people and programs, and what keeps their users, keys and certificates in order. */
async function serveControl({ world, options, folder, tls, power }: ControlParts, closing: Closing): Promise<void> {
  const { log } = world
  const logins = await browserLogins(world, options, controlUrl(options))
  const upkeep = startUpkeep(world, async () => tls?.renew())
  closing.add(() => upkeep.close())
  const server = await servePorts({
    ports: [served(controlPort, controlHandlers(world), { streamEvents: eventItems(world) }), served(powerPort, power)],
    listen: [
      { socketPath: folder.socket },
      { host: options.controlHost, port: options.controlPort, ...(tls && speaksTls(options) ? { tls } : {}) },
    ],
    authenticate: userAuthenticator(world),
    oversight: overseer(world),
    routes: [(app, face) => addAuthRoutes(app, face, logins)],
    log,
    runOnce: onceRunner(world),
    version,
  })
  closing.add(() => server.close())
}

function controlUrl(options: UpOptions): string {
  return `${speaksTls(options) ? 'https' : 'http'}://${options.controlHost}:${options.controlPort}`
}

function servicesOf(options: UpOptions, folder: DataFolder): World['services'] {
  const { address, httpPort, tftpPort } = options
  const control = `${controlUrl(options)}, ${folder.socket}`
  return [
    { name: 'control', listens: control },
    ...(address === undefined
      ? []
      : [
          { name: 'service', listens: `http://${address}:${httpPort}` },
          { name: 'tftp', listens: `${address}:${tftpPort}` },
          ...(options.dhcp === 'full' ? [{ name: 'dhcp', listens: `${address}:67` }] : []),
        ]),
  ]
}

/** Everything that machines talk to: DHCP, TFTP, HTTP boot, the Service Port and the images. */
async function serveMachines(
  {
    world,
    options,
    folders,
    stage2Sha256,
    tls,
  }: { world: World; options: UpOptions; folders: BootFolders; stage2Sha256: string; tls: Certificates | undefined },
  address: string,
  closing: Closing,
): Promise<void> {
  const { db, log, now, keyring, bootBase, library } = world
  const { serviceTlsPort: port } = options
  const tlsPort = port === undefined || !tls ? undefined : { host: address, port, tls }
  const recorder = bootRecorder(db, now, (error, text) => log.error({ err: error, text }, 'an event was lost'))
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
  closing.add(() => recorder.settled())
  // One for HTTP and for the seeder: it caps what leaves, whoever asks.
  const { originRate: rate } = options
  const egress = rate === undefined ? undefined : new TokenBucket({ bytesPerSecond: rate, burstBytes: rate / 10 })
  const swarm = await swarmServices(world, {
    isOpen: options.openSwarm ?? false,
    address,
    seederPort: options.seederPort,
    egress,
  })
  closing.add(() => swarm.close())
  const server = await servePorts({
    ports: [served(servicePort, serviceHandlers(world))],
    listen: [{ host: address, port: options.httpPort }, ...(tlsPort ? [tlsPort] : [])],
    authenticate: ({ token, address: peer }) =>
      token === undefined ? undefined : { kind: 'bearer', token, address: peer },
    log,
    version,
    routes: [
      (app) => addBootRoutes(app, resolveBoot, recorder.http),
      (app) => addOriginRoutes(app, { library, baseUrl: bootBase, egress }),
      (app) => swarm.addRoutes(app),
      (app) => addCaptureFrames(app, captureIntake(world).takeFrame),
    ],
  })
  closing.add(() => server.close())
  const tftp = await startTftpServer({ address, port: options.tftpPort, resolve: resolveBoot, onEvent: recorder.tftp })
  closing.add(() => tftp.close())
  if (options.dhcp === 'off') return
  const dhcp = await serveDhcp(world, { address, router: options.router }, recorder)
  closing.add(() => dhcp.close())
}

async function serveDhcp(
  { db, log, now, bootBase }: World,
  { address, router }: { address: string; router: string | undefined },
  recorder: BootRecorder,
): Promise<DhcpServer> {
  return await startDhcpServer({
    mode: 'full',
    config: {
      serverAddress: address,
      prefixLength: await prefixLengthOf(address),
      router,
      leaseSeconds: 3600,
      httpBase: bootBase,
      tftpServer: address,
    },
    lookup: async (mac) => {
      const view = await bootByMac(db, mac)
      if (!view || view.ip === null) return undefined
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
export async function runHadesd(options: UpOptions): Promise<void> {
  const hadesd = await startHadesd(options)
  await new Promise<void>((done) => {
    const stop = (signal: NodeJS.Signals): void => {
      process.once(signal, () => process.exit(130))
      done()
    }
    process.once('SIGTERM', stop)
    process.once('SIGINT', stop)
  })
  await hadesd.close()
}
