// What in a captured Linux system belongs to one machine or must not be passed on: found by name, told by name, never by
// what it holds. With `repair` what can be mended without a decision of the operator's is mended in the tree that is given.
// docs/capture.md has the list for people.
import type { Finding } from '../contract/types.ts'
import type { HygieneKind } from '../model/capture.ts'
import type { Tree } from './tree.ts'

type Found = {
  readonly kind: HygieneKind
  readonly path: string
  readonly text: string
  /** Mends it; without one it is the operator's to decide. */
  readonly repair?: () => Promise<void>
}

/** The contract's bound, and enough for anyone to see that a system was not prepared. */
const findingsMax = 1000
const pathLengthMax = 1000
/** Logs and caches below this are not worth a word. */
const bigBytes = 1024 * 1024

/** Looks through one system; with `repair` mends what it can. What cannot be mended stays found, with the reason. */
export async function lookThrough(tree: Tree, options: { readonly repair: boolean }): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const look of looks) {
    for (const { kind, path, text, repair } of await look(tree)) {
      if (findings.length >= findingsMax || path.length > pathLengthMax) continue
      const failed = options.repair && repair ? await repair().catch((error: unknown) => String(error)) : undefined
      const repaired = options.repair && repair !== undefined && failed === undefined
      const words = failed === undefined ? text : `${text}; it could not be mended: ${failed}`
      findings.push({ kind, path, text: words.slice(0, 4000), repaired })
    }
  }
  return findings
}

const looks: readonly ((tree: Tree) => Promise<Found[]>)[] = [
  machineId,
  hostKeys,
  persistentNames,
  hostName,
  secrets,
  histories,
  cloudInit,
  logs,
]

async function machineId(tree: Tree): Promise<Found[]> {
  const found: Found[] = []
  const id = (await tree.read('/etc/machine-id'))?.trim()
  if (id !== undefined && id !== '' && id !== 'uninitialized') {
    const text = 'the machine-id is set: machines of this image would have the same'
    found.push({ kind: 'machine-id', path: '/etc/machine-id', text, repair: () => tree.empty('/etc/machine-id') })
  }
  const others = [
    ['/var/lib/dbus/machine-id', 'a second copy of the machine-id'],
    ['/var/lib/systemd/random-seed', 'the seed of random numbers: machines of this image would begin with the same'],
  ] as const
  for (const [path, text] of others) {
    // A link to /etc/machine-id is as it should be.
    const here = tree.resolve(path, false)
    if (here === undefined || here !== tree.resolve(path) || tree.sizeOf(path) === 0) continue
    found.push({ kind: 'machine-id', path, text, repair: () => tree.wipe(path) })
  }
  return found
}

async function hostKeys(tree: Tree): Promise<Found[]> {
  const names = (await tree.list('/etc/ssh')).filter(({ name }) => /^ssh_host_.*key(\.pub)?$/.test(name))
  return names.map(({ name }): Found => {
    const path = `/etc/ssh/${name}`
    const text = 'an SSH host key: machines of this image could pass for one another'
    return { kind: 'ssh-host-key', path, text, repair: () => tree.wipe(path) }
  })
}

/** Files that may tie an interface's name or settings to one network card: [folder, names, what in them does]. */
const tiedToCards: readonly (readonly [folder: string, names: RegExp, line: RegExp])[] = [
  ['/etc/netplan', /\.yaml$/, /^\s*macaddress:/m],
  ['/etc/NetworkManager/system-connections', /./, /^\s*(mac-address|cloned-mac-address)=/m],
  ['/etc/systemd/network', /\.(link|network)$/, /^\s*(Permanent)?MACAddress=/m],
  ['/etc/network', /^interfaces$/, /^\s*hwaddress\s/m],
  ['/etc/network/interfaces.d', /./, /^\s*hwaddress\s/m],
]

async function persistentNames(tree: Tree): Promise<Found[]> {
  const found: Found[] = []
  for (const { name } of await tree.list('/etc/udev/rules.d')) {
    const path = `/etc/udev/rules.d/${name}`
    if (!name.endsWith('persistent-net.rules') || !/^\s*[^#\s]/m.test((await tree.read(path)) ?? '')) continue
    const text = "names interfaces by this machine's MAC addresses: on another one they get other names"
    found.push({ kind: 'network-name', path, text, repair: () => tree.remove(path) })
  }
  const scripts = '/etc/sysconfig/network-scripts'
  for (const { name } of await tree.list(scripts)) {
    const path = `${scripts}/${name}`
    const before = name.startsWith('ifcfg-') ? await tree.read(path) : undefined
    if (before === undefined || !/^\s*(HWADDR|MACADDR)=/m.test(before)) continue
    const after = before.replaceAll(/^\s*(HWADDR|MACADDR)=.*\n?/gm, '')
    const text = 'is for the network card of this machine only'
    found.push({ kind: 'network-name', path, text, repair: () => tree.write(path, after) })
  }
  for (const [folder, names, line] of tiedToCards) {
    for (const { name } of await tree.list(folder)) {
      const path = `${folder}/${name}`
      if (!names.test(name) || !line.test((await tree.read(path)) ?? '')) continue
      const text = 'names a MAC address of this machine: take it out, or let a setup write the network'
      found.push({ kind: 'network-name', path, text })
    }
  }
  return found
}

async function hostName(tree: Tree): Promise<Found[]> {
  const name = (await tree.read('/etc/hostname', 300))?.trim() ?? ''
  if (name === '' || name === 'localhost') return []
  const text = `the host name is set to ${name.replaceAll(/[^\w.-]/g, '?')}: a setup's post-install can give each its own`
  return [{ kind: 'host-name', path: '/etc/hostname', text }]
}

/** Users' files that hold credentials, below a home. */
const homeSecrets = [
  '.aws/credentials',
  '.azure/accessTokens.json',
  '.config/gcloud/credentials.db',
  '.config/gcloud/application_default_credentials.json',
  '.docker/config.json',
  '.git-credentials',
  '.kube/config',
  '.netrc',
  '.npmrc',
  '.pgpass',
  '.my.cnf',
]

const systemSecrets = ['/etc/krb5.keytab', '/etc/kubernetes/admin.conf', '/var/lib/kubelet/kubeconfig']

/** Folders where private keys of services lie, and how deep they are looked through. */
const keyFolders: readonly (readonly [folder: string, depth: number])[] = [
  ['/etc/ssl', 2],
  ['/etc/pki/tls', 2],
  ['/etc/letsencrypt', 3],
  ['/etc/kubernetes/pki', 2],
]

async function secrets(tree: Tree): Promise<Found[]> {
  const found: Found[] = []
  const secret = (path: string, text: string) => found.push({ kind: 'secret', path, text })
  for (const path of systemSecrets) if (tree.sizeOf(path) > 0) secret(path, 'holds credentials')
  for (const home of await homesOf(tree)) {
    for (const name of homeSecrets)
      if (tree.sizeOf(`${home}/${name}`) > 0) secret(`${home}/${name}`, 'holds credentials')
    for (const { name } of await tree.list(`${home}/.ssh`)) {
      const path = `${home}/.ssh/${name}`
      if (await isPrivateKey(tree, path)) secret(path, 'is a private key')
    }
  }
  for (const [folder, depth] of keyFolders) {
    for (const path of await filesBelow(tree, folder, depth)) {
      if (/\.(pem|key|p12|pfx)$/.test(path) && (/\.(p12|pfx)$/.test(path) || (await isPrivateKey(tree, path)))) {
        secret(path, 'is a private key')
      }
    }
  }
  return found
}

async function isPrivateKey(tree: Tree, path: string): Promise<boolean> {
  return /-----BEGIN [A-Z ]*PRIVATE KEY-----/.test((await tree.read(path, 16 * 1024)) ?? '')
}

const historyNames = /^\.(bash|zsh|sh|ash|python|node_repl|mysql|psql|sqlite|rediscli)_?history$|^\.(lesshst|viminfo)$/

async function histories(tree: Tree): Promise<Found[]> {
  const found: Found[] = []
  for (const home of await homesOf(tree)) {
    for (const { name } of await tree.list(home)) {
      const path = `${home}/${name}`
      if (!historyNames.test(name) || tree.sizeOf(path) === 0) continue
      const isTelling = /passw|token|secret|api_?key|AKIA[0-9A-Z]{16}/i.test((await tree.read(path, 1024 * 1024)) ?? '')
      const text = isTelling ? 'a history with words like password or token in it' : 'what somebody typed'
      found.push({ kind: 'history', path, text, repair: () => tree.wipe(path) })
    }
  }
  return found
}

async function cloudInit(tree: Tree): Promise<Found[]> {
  const folder = '/var/lib/cloud'
  const names = (await tree.list(folder)).map(({ name }) => name)
  if (!names.some((name) => ['instance', 'instances', 'data', 'sem'].includes(name))) return []
  const repair = async (): Promise<void> => {
    for (const name of names) if (name !== 'scripts') await tree.remove(`${folder}/${name}`)
  }
  const text = "cloud-init's memory of this machine, user data and all: it does not begin anew on another one"
  return [{ kind: 'cloud-init', path: folder, text, repair }]
}

async function logs(tree: Tree): Promise<Found[]> {
  const found: Found[] = []
  const sized = async (folder: string, depth: number) => {
    const paths = await filesBelow(tree, folder, depth)
    return { paths, bytes: paths.reduce((sum, path) => sum + tree.sizeOf(path), 0) }
  }
  const log = await sized('/var/log', 4)
  if (log.bytes >= bigBytes) {
    const repair = async (): Promise<void> => {
      for (const path of log.paths) {
        // What was turned over, and the journal, whose files are bound to the machine-id; the others' owners want them there.
        if (/\.(gz|xz|zst|old|\d+)$|\/journal\//.test(path)) await tree.remove(path)
        else await tree.empty(path)
      }
    }
    found.push({ kind: 'log', path: '/var/log', text: `${mebibytes(log.bytes)} of logs`, repair })
  }
  for (const folder of [
    '/var/cache/apt/archives',
    '/var/cache/dnf',
    '/var/cache/yum',
    '/var/crash',
    '/tmp',
    '/var/tmp',
  ]) {
    const { paths, bytes } = await sized(folder, 5)
    if (bytes < bigBytes) continue
    const repair = async (): Promise<void> => {
      for (const path of paths) await tree.remove(path)
    }
    found.push({ kind: 'log', path: folder, text: `${mebibytes(bytes)} that can be fetched or made again`, repair })
  }
  return found
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`
}

/** `/root` and what is in `/home`. */
async function homesOf(tree: Tree): Promise<string[]> {
  const users = (await tree.list('/home')).filter((entry) => entry.isDirectory()).map(({ name }) => `/home/${name}`)
  return ['/root', ...users]
}

/** Regular files in a folder and down to `depth` folders below it; links are not followed. */
async function filesBelow(tree: Tree, folder: string, depth: number): Promise<string[]> {
  const files: string[] = []
  for (const entry of await tree.list(folder)) {
    const path = `${folder}/${entry.name}`
    if (entry.isFile()) files.push(path)
    else if (entry.isDirectory() && depth > 0) files.push(...(await filesBelow(tree, path, depth - 1)))
    if (files.length > 50_000) break
  }
  return files
}
