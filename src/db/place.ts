// Where the database is: a SQLite file, or a MariaDB with one address or several. The text form is
// `mariadb://user@host[:port][,host[:port]...]/database?tls=verify&ca=file`; it never holds a password.

import type { Secret } from '../lib/secret.ts'
import { Failure } from '../model/failure.ts'

export type SqlitePlace = { readonly kind: 'sqlite'; readonly path: string }

export type MariadbPlace = {
  readonly kind: 'mariadb'
  /** In the order in which they are tried: the nodes of a cluster, all writing to the same database. */
  readonly nodes: readonly MariadbNode[]
  readonly database: string
  readonly user: string
  readonly password: Secret | undefined
  /** Without it, plain. */
  readonly tls: DatabaseTls | undefined
}

/** Only to a server whose certificate `ca`, or this machine's authorities, have signed for its name or address. */
export type DatabaseTls = {
  /** A file of certificates in PEM. */
  readonly ca: string | undefined
  /** Files in PEM, for a server that wants to see a certificate of ours too. */
  readonly identity: { readonly cert: string; readonly key: string } | undefined
}

export type MariadbNode = { readonly host: string; readonly port: number } | { readonly socketPath: string }

export type DatabasePlace = SqlitePlace | MariadbPlace

const nodesMax = 16

/** As it is said to people, without anything secret. */
export function nameOfPlace(place: DatabasePlace): string {
  if (place.kind === 'sqlite') return `the database ${place.path}`
  return `the database ${place.database} at ${place.nodes.map(nameOfNode).join(', ')}`
}

export function nameOfNode(node: MariadbNode): string {
  return 'socketPath' in node ? node.socketPath : `${node.host}:${node.port}`
}

/**
 * Reads `--database`: a URL `mariadb:` (or `mysql:`), or the path of a SQLite file. Failure `bad-input` names what is
 * wrong with it.
 */
export function parsePlace(text: string, password?: Secret): DatabasePlace {
  const bad = (why: string): Failure => new Failure('bad-input', `the database's address ${why}`, { at: '--database' })
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase()
  if (scheme === undefined) return { kind: 'sqlite', path: text }
  if (scheme !== 'mariadb' && scheme !== 'mysql')
    throw bad(`begins with ${scheme}://, which is none of file, mariadb://`)
  const rest = /^[^/]*\/\/([^@/]*)@([^/?]*)\/([^/?#]*)(?:\?([^#]*))?$/.exec(text)
  if (!rest) throw bad('must read mariadb://user@host/database')
  const [, user = '', hosts = '', database = '', query = ''] = rest
  if (user.includes(':')) throw bad('holds a password: give that in a file (--database-password-file)')
  if (user === '' || database === '') throw bad('must read mariadb://user@host/database')
  const { socket, tls, ca, cert, key, ...unknown } = Object.fromEntries(new URLSearchParams(query))
  const [other] = Object.keys(unknown)
  if (other !== undefined) throw bad(`has an option ${other}; there are tls, ca, cert, key and socket`)
  const nodes: readonly MariadbNode[] =
    socket === undefined ? hosts.split(',').map((host) => nodeOf(host, bad)) : [{ socketPath: socket }]
  if (nodes.length > nodesMax) throw bad(`names more than ${nodesMax} hosts`)
  if (tls !== undefined && tls !== 'off' && tls !== 'verify') throw bad('takes tls=verify or tls=off')
  const isNear = nodes.every((node) => 'socketPath' in node || isLoopback(node.host))
  if (tls === undefined && !isNear) {
    throw bad('must say tls=verify, or tls=off where the network between is trusted')
  }
  if (tls !== 'verify' && (ca ?? cert ?? key) !== undefined)
    throw bad('must say tls=verify where it says ca, cert or key')
  if (tls === 'verify' && socket !== undefined) throw bad('takes tls=verify for hosts, and none for a socket')
  if ((cert === undefined) !== (key === undefined)) throw bad('takes cert and key together')
  const identity = cert === undefined || key === undefined ? undefined : { cert, key }
  return {
    kind: 'mariadb',
    nodes,
    database: decodeURIComponent(database),
    user: decodeURIComponent(user),
    password,
    tls: tls === 'verify' ? { ca, identity } : undefined,
  }
}

function nodeOf(text: string, bad: (why: string) => Failure): MariadbNode {
  const found = /^(?:\[([0-9a-f:]+)\]|([a-z0-9._-]+))(?::(\d{1,5}))?$/i.exec(text)
  const host = found?.[1] ?? found?.[2]
  const port = Number(found?.[3] ?? 3306)
  if (host === undefined || port === 0 || port > 65_535) throw bad(`has no host in '${text}'`)
  return { host, port }
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host)
}
