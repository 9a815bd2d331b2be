// Every setting of the services, as data. The file, the environment, the flags, `hades config` and docs/config.md follow from
// it: a new setting is one line here. `control.port` is `control: { port: 7700 }` in the file, HADES_CONTROL_PORT in the
// environment, --control-port as a flag.
import { join } from 'node:path'
import { type Static, Type } from 'typebox'
import { type SettingSchema, settingsOf } from '../lib/settings.ts'
import { bytesPerSecondMin } from '../model/transfer-policy.ts'

const root = join(import.meta.dirname, '..', '..')

type About = Omit<SettingSchema, 'type' | 'properties' | 'default'> & { readonly description: string }

/** A text, a number and so on that may be left out. With a `default` in `about` use the types below. */
const text = (about: About) => Type.Optional(Type.String({ minLength: 1, maxLength: 1000, ...about }))
const port = (description: string, number: number) =>
  Type.Integer({ minimum: 0, maximum: 65_535, word: 'port', default: number, description })
const flag = (description: string) => Type.Boolean({ default: false, description })
const choice = <const Word extends string>(words: readonly Word[], first: Word, description: string) =>
  Type.Enum([...words], { default: first, description })
const list = (word: string, description: string, example: string) =>
  Type.Optional(Type.Array(Type.String({ minLength: 1 }), { word, maxItems: 100, example, description }))
const file = (description: string, example: string) => text({ is: 'path', word: 'file', example, description })
/** Milliseconds here, `30d` where people write it. */
const time = (description: string, defaultText: string, ms: number, minimum = 0) =>
  Type.Integer({ is: 'time', minimum, word: 'time', default: ms, defaultText, description })
const count = (description: string, number: number, minimum: number) =>
  Type.Integer({ minimum, word: 'number', default: number, description })
/** A folder that lies beside the program unless told otherwise. */
const folder = (description: string, within: string) =>
  Type.String({
    is: 'path',
    example: join('/usr/lib/hades', within),
    word: 'folder',
    default: join(root, within),
    defaultText: `${within} of the program`,
    description,
  })
/** The name of a file that holds a secret; nobody but its owner may read it. */
export const secretFile = (description: string, example?: string) =>
  text({ is: 'secret-file', word: 'file', description, ...(example === undefined ? {} : { example }) })

const octet = String.raw`(?:25[0-5]|2[0-4]\d|1?\d?\d)`
const ipv4 = String.raw`^(?:${octet}(?:\.(?!$)|$)){4}$`
const ipv4Range = String.raw`^${octet}(?:\.${octet}){3}-${octet}(?:\.${octet}){3}$`
const hourMs = 3_600_000
const dayMs = 24 * hourMs

export const configSchema = Type.Object({
  data: Type.String({
    is: 'path',
    word: 'folder',
    default: '/var/lib/hades',
    description: 'the data folder: database, images, keys, control socket; made at first start',
  }),
  database: text({
    word: 'where',
    example: 'mariadb://hades@db1,db2/hades?tls=verify',
    description:
      'a MariaDB, mariadb://user@host[,host]/name?tls=verify, or a SQLite file; hades.db of the data folder without',
  }),
  databasePasswordFile: secretFile('the password of the database', '/etc/hades/database.password'),
  address: text({
    word: 'ip',
    pattern: ipv4,
    example: '10.0.0.1',
    description: "this machine's IPv4 address on the machines' network; without it no machine is served",
  }),
  dhcp: choice(['full', 'off'], 'full', 'whether a DHCP server answers on that network'),
  dhcpPool: text({
    word: 'ip-ip',
    pattern: ipv4Range,
    example: '10.0.0.200-10.0.0.250',
    description: 'addresses that DHCP lends to machines that are no host, while they boot; none without it',
  }),
  router: text({
    word: 'ip',
    pattern: ipv4,
    example: '10.0.0.254',
    description: 'the default route that DHCP gives, an IPv4 address',
  }),
  http: Type.Object({ port: port('boot files, images and the Service Port', 7780) }),
  tftp: Type.Object({ port: port('TFTP', 69) }),
  control: Type.Object({
    host: Type.String({
      minLength: 1,
      word: 'ip',
      default: '127.0.0.1',
      description: 'where the Control Port listens',
    }),
    port: port('and on which port', 7700),
  }),
  origin: Type.Object({
    rate: Type.Optional(
      Type.Integer({
        is: 'rate',
        word: 'rate',
        minimum: bytesPerSecondMin,
        example: '100M',
        description: 'bytes a second of images that leave here, at most',
      }),
    ),
  }),
  seeder: Type.Object({ port: port('the BitTorrent peer that has every image, for stock clients', 6881) }),
  openSwarm: flag('anyone who has the torrent of an image may join its swarm, not only hosts that fetch it'),
  tls: flag('HTTPS on the Control Port, which is so in any case unless it listens on this machine alone'),
  tlsCert: file(
    "a certificate (PEM, with its chain) in place of one of the service's own authority",
    '/etc/hades/tls.pem',
  ),
  tlsKey: file('its private key (PEM)', '/etc/hades/tls.key'),
  tlsName: list('name', "more names and addresses for the service's own certificate", 'hades.example'),
  serviceTlsPort: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 65_535,
      word: 'port',
      example: '7781',
      description: 'agents reach the Service Port there, by TLS, and know it by its fingerprint',
    }),
  ),
  publicUrl: text({
    word: 'url',
    example: 'https://hades.example',
    description: 'where browsers reach the Control Port, if not at its address',
  }),
  oidcIssuer: text({
    word: 'url',
    example: 'https://login.example',
    description: 'browsers may log in at this OpenID provider too',
  }),
  oidcClient: text({ word: 'id', example: 'hades', description: 'what this service is called there' }),
  oidcSecretFile: secretFile('the secret of that', '/etc/hades/oidc.secret'),
  oidcClaim: Type.String({ word: 'name', default: 'groups', description: 'the claim with the groups of a user' }),
  oidcRole: list('role=group', 'what a group may do here', 'admin=hades-admins'),
  localWebhooks: flag('webhooks may be on this machine itself, by loopback and link-local addresses'),
  confirmAbove: count('rollouts of more hosts than this must be confirmed', 20, 0),
  library: Type.Object({
    quota: Type.Optional(
      Type.Integer({
        is: 'bytes',
        word: 'size',
        minimum: 1,
        example: '500GB',
        description: 'what all images together may have; no bound without',
      }),
    ),
  }),
  loaders: folder('the boot loaders', join('build', 'loaders')),
  scout: folder('the scout', join('build', 'scout', 'current')),
  scoutKey: text({
    is: 'path',
    word: 'file',
    example: '/etc/hades/scout.pub',
    description: 'a line of authorized_keys: lets its owner into the scout by SSH, port 2222',
  }),
  log: Type.Object({ level: choice(['debug', 'info', 'warn', 'error'], 'info', 'what is logged') }),
  stop: Type.Object({
    grace: time('how long calls under way may take when the service is told to stop', '10s', 10_000),
  }),
  metrics: Type.Object({
    tokenFile: secretFile(
      'whoever gives this token may read the metrics, beside users and this machine itself',
      '/etc/hades/metrics.token',
    ),
  }),
  retention: Type.Object({
    eventAge: time('events older than this go, but for what explains a present deployment', '90d', 90 * dayMs, hourMs),
    events: count('no more events than this are kept; the oldest go first', 5_000_000, 1000),
    taskAge: time('tasks that ended longer ago than this go', '90d', 90 * dayMs, hourMs),
    logAge: time(
      "agents' logs of deployments that ended longer ago than this go, but for each host's last",
      '90d',
      90 * dayMs,
      hourMs,
    ),
    deliveryAge: time('events that a webhook was not told of longer ago than this go', '30d', 30 * dayMs, hourMs),
    auditAge: time('rows of the audit older than this go', '400d', 400 * dayMs, dayMs),
    audit: count('no more rows of the audit than this are kept; the oldest go first', 1_000_000, 1000),
  }),
})

export type Config = Static<typeof configSchema>

/** Every setting, in the order of the schema. */
export const settings = settingsOf(configSchema, 'HADES')
