// What makes a system this one and no copy: its name, its machine id, its SSH host keys, and who may log in.
import { randomUUID } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Failure } from '../../model/failure.ts'
import type { AuthorizedKey } from '../../model/post-install.ts'
import { type ActionResult, done, skipped } from './action.ts'
import { run } from './command.ts'
import type { TargetRoot } from './target-root.ts'

const hostnameCharactersMax = 64

/** Writes the name, and its line in /etc/hosts as Debian has it (127.0.1.1). */
export async function setHostname(tree: TargetRoot, name: string): Promise<ActionResult> {
  if (
    name.length > hostnameCharactersMax ||
    !/^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/i.test(name)
  ) {
    throw new Failure('post-install-failed', `\`${name}\` is no host name: letters, digits, - and dots, at most 64`)
  }
  await tree.write('/etc/hostname', `${name}\n`)
  await tree.write('/etc/hosts', hostsWith((await tree.read('/etc/hosts')) ?? '', name))
  return done(`the system is called ${name}`)
}

/** The text of /etc/hosts with the host's own line instead of the one of the machine that the image was made on. */
export function hostsWith(text: string, name: string): string {
  const [short] = name.split('.', 1)
  const line = `127.0.1.1\t${short === name ? name : `${name} ${short}`}`
  const lines = text.split('\n').filter((old) => !/^\s*127\.0\.1\.1\s/.test(old))
  while (lines.at(-1) === '') lines.pop()
  if (!lines.some((old) => /^\s*127\.0\.0\.1\s/.test(old))) lines.unshift('127.0.0.1\tlocalhost')
  const at = lines.findIndex((old) => /^\s*127\.0\.0\.1\s/.test(old))
  lines.splice(at + 1, 0, line)
  return `${lines.join('\n')}\n`
}

/**
 * A new machine id, written here rather than left to the first boot: it is there whatever starts first, also on a root that
 * is read-only. An image that says `uninitialized` asks systemd for more than an id (machine-id(5)) and gets it.
 */
export async function setMachineId(tree: TargetRoot): Promise<ActionResult> {
  const old = (await tree.read('/etc/machine-id'))?.trim()
  if (old === 'uninitialized') return skipped('the image leaves it to the first boot of the system (uninitialized)')
  const dbus = '/var/lib/dbus/machine-id'
  const hasDbus = (await tree.has(dbus)) && !(await tree.locate(dbus, { follow: false })).stats?.isSymbolicLink()
  if (old === undefined && !hasDbus) return skipped('the system has no machine id')
  const id = randomUUID().replaceAll('-', '')
  if (old !== undefined) await tree.write('/etc/machine-id', `${id}\n`, { mode: 0o444 })
  if (hasDbus) await tree.write(dbus, `${id}\n`)
  return done(`the machine id is ${id}`)
}

const keyTypes = ['rsa', 'ecdsa', 'ed25519'] as const
type KeyType = (typeof keyTypes)[number]
const keyFile = /^ssh_host_([a-z0-9]+)_key(\.pub|-cert\.pub)?$/
/** RSA needs primes; an emulated processor looks for them for a while. */
const keygenTimeoutMs = 120_000

/** New host keys of the kinds that the system has or names; old ones of any kind go. */
export async function renewHostKeys(tree: TargetRoot, name: string, signal: AbortSignal): Promise<ActionResult> {
  const names = await tree.list('/etc/ssh')
  if (!names.includes('sshd_config') && !names.some((file) => keyFile.test(file))) {
    return skipped('the system has no SSH server: there is no /etc/ssh/sshd_config')
  }
  const types = await wantedTypes(tree, names)
  const folder = await mkdtemp(join(tmpdir(), 'hades-keys-'))
  try {
    const prints: string[] = []
    for (const type of types) {
      const key = join(folder, type)
      const make = ['ssh-keygen', '-q', '-t', type, '-N', '', '-C', `root@${name}`, '-f', key]
      await run(`make an SSH host key of type ${type}`, make, signal, { timeoutMs: keygenTimeoutMs })
      const [, print = ''] = (await run('read the new key', ['ssh-keygen', '-l', '-f', key], signal)).split(' ')
      prints.push(`${type} ${print}`)
      await tree.write(`/etc/ssh/ssh_host_${type}_key`, await readFile(key, 'utf8'), { mode: 0o600 })
      await tree.write(`/etc/ssh/ssh_host_${type}_key.pub`, await readFile(`${key}.pub`, 'utf8'))
    }
    for (const file of names) {
      const [, type = '', suffix] = keyFile.exec(file) ?? []
      // A certificate of the old key is worth nothing with the new one.
      const isOld = type !== '' && (suffix === '-cert.pub' || !types.includes(type as KeyType))
      if (isOld) await tree.remove(`/etc/ssh/${file}`)
    }
    return done(`new SSH host keys: ${prints.join(', ')}`)
  } finally {
    await rm(folder, { recursive: true })
  }
}

async function wantedTypes(tree: TargetRoot, names: readonly string[]): Promise<readonly KeyType[]> {
  const present = keyTypes.filter((type) => names.includes(`ssh_host_${type}_key`))
  if (present.length > 0) return present
  const snippets = (await tree.list('/etc/ssh/sshd_config.d')).filter((file) => file.endsWith('.conf'))
  const files = [...snippets.map((file) => `/etc/ssh/sshd_config.d/${file}`), '/etc/ssh/sshd_config']
  const configured = new Set<string>()
  for (const file of files) {
    const text = (await tree.read(file)) ?? ''
    for (const [, type = ''] of text.matchAll(/^\s*HostKey\s+\/etc\/ssh\/ssh_host_([a-z0-9]+)_key\s*$/gim)) {
      configured.add(type)
    }
  }
  const named = keyTypes.filter((type) => configured.has(type))
  return named.length > 0 ? named : keyTypes
}

/** Lets the keys log in, each for its user, beside those that may already. */
export async function addAuthorizedKeys(tree: TargetRoot, keys: readonly AuthorizedKey[]): Promise<ActionResult> {
  const users = parsePasswd((await tree.read('/etc/passwd')) ?? '')
  const said: string[] = []
  for (const name of new Set(keys.map(({ user }) => user))) {
    const user = users.get(name)
    if (user === undefined) throw new Failure('post-install-failed', `the new system has no user ${name} to give a key`)
    if (!(await tree.stat(user.home))?.isDirectory()) {
      throw new Failure('post-install-failed', `the home of ${name}, ${user.home}, is not in the new system`)
    }
    const { uid, gid } = user
    const file = `${user.home}/.ssh/authorized_keys`
    await tree.makeFolder(`${user.home}/.ssh`, { mode: 0o700, uid, gid })
    const old = (await tree.read(file)) ?? ''
    const wanted = keys.filter((key) => key.user === name).map(({ key }) => key.trim())
    const { text, added } = withKeys(old, wanted)
    if (added > 0) await tree.write(file, text, { mode: 0o600, uid, gid })
    said.push(`${name}: ${added} added, ${wanted.length - added} there already`)
  }
  return done(`authorized keys of ${said.join('; ')}`)
}

/** A file of authorized keys with those that are not in it yet; the same key with another comment is the same. */
export function withKeys(text: string, keys: readonly string[]): { readonly text: string; readonly added: number } {
  const bodyOf = (line: string) =>
    /(?:^|\s)((?:ssh|ecdsa|sk)-\S+\s+[A-Za-z0-9+/=]+)/.exec(line)?.[1]?.replaceAll(/\s+/g, ' ')
  const present = new Set(text.split('\n').flatMap((line) => (line.startsWith('#') ? [] : (bodyOf(line) ?? []))))
  const lines: string[] = []
  for (const key of keys) {
    const body = bodyOf(key) ?? key
    if (present.has(body)) continue
    present.add(body)
    lines.push(`${key.replaceAll(/\s*[\r\n]+\s*/g, ' ')}\n`)
  }
  const before = text === '' || text.endsWith('\n') ? text : `${text}\n`
  return { text: before + lines.join(''), added: lines.length }
}

type User = { readonly uid: number; readonly gid: number; readonly home: string }

/** Reads passwd(5); rows that make no sense are no users. */
export function parsePasswd(text: string): ReadonlyMap<string, User> {
  const users = new Map<string, User>()
  for (const line of text.split('\n')) {
    const [name = '', , uid = '', gid = '', , home = ''] = line.split(':')
    if (!/^\d{1,9}$/.test(uid) || !/^\d{1,9}$/.test(gid) || !home.startsWith('/') || users.has(name)) continue
    users.set(name, { uid: Number(uid), gid: Number(gid), home })
  }
  return users
}
