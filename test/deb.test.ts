// The Debian package as an administrator has it: installed into a bare Debian, started as its unit says, used, upgraded, purged.
// The root is made once and kept in build/; the service runs in a network and processes of its own.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFile, copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { hashOf, part } from '../scout/parts.ts'
import { until } from '../src/lib/until.ts'

const repository = join(import.meta.dirname, '..')
/** On the disk, not in memory: the root has half a gigabyte. */
const cache = join(repository, 'build', 'deb-test')

let folder: string
let root: string
let deb: string
let service: ChildProcess | undefined

/** A command in the root, with no network but what `service` has. */
const inside = (command: readonly string[], options: { reject?: boolean } = {}) =>
  execa('chroot', [root, ...command], {
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', DEBIAN_FRONTEND: 'noninteractive', HOME: '/root' },
    extendEnv: false,
    ...options,
  })

/** A Debian with the packages that ours depends on, as a tar file. */
async function bareDebian(depends: readonly string[]): Promise<string> {
  const { folder } = await part(cache, `root-${hashOf(['bookworm', ...depends])}`, async (unfinished) => {
    const options = ['--mode=auto', '--variant=minbase', '--quiet', '--aptopt=APT::Install-Recommends "false"']
    await execa('mmdebstrap', [...options, `--include=${depends.join(',')}`, 'bookworm', join(unfinished, 'root.tar')])
  })
  return join(folder, 'root.tar')
}

beforeAll(async () => {
  await mkdir(cache, { recursive: true })
  folder = await mkdtemp(join(cache, 'run-'))
  root = join(folder, 'root')
  await execa(process.execPath, [join(repository, 'packaging/build.ts'), '--out', folder])
  const name = (await readdir(folder)).find((file) => /^hades_.*\.deb$/.test(file))
  if (name === undefined) throw new Error('no package was built')
  deb = join(folder, name)
  const { stdout } = await execa('dpkg-deb', ['--field', deb, 'Depends'])
  const tar = await bareDebian(stdout.split(',').map((one) => one.trim()))
  await mkdir(root)
  await execa('tar', ['-C', root, '-xf', tar])
  // Nothing may start by itself here, as nothing may in any chroot.
  await writeFile(join(root, 'usr/sbin/policy-rc.d'), '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  await copyFile(deb, join(root, 'hades.deb'))
})
afterAll(async () => {
  service?.kill('SIGKILL')
  await rm(folder, { recursive: true, force: true })
})

/** Values of one key of the unit. */
async function unit(key: string): Promise<string[]> {
  const text = await readFile(join(root, 'lib/systemd/system/hades.service'), 'utf8')
  return [...text.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map(([, value = '']) => value)
}

/** Starts what the unit starts: its command, user and capabilities, in namespaces that end with it. */
async function startAsUnit(): Promise<void> {
  const [command = ''] = await unit('ExecStart')
  const [user = ''] = await unit('User')
  const caps = (await unit('AmbientCapabilities'))
    .map((name) => `+${name.replace(/^CAP_/, '').toLowerCase()}`)
    .join(',')
  const ids = (await readFile(join(root, 'etc/passwd'), 'utf8')).split('\n').find((line) => line.startsWith(`${user}:`))
  const [, , uid = '', gid = ''] = ids?.split(':') ?? []
  const drop = [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--no-new-privs']
  const may = [`--bounding-set=-all,${caps}`, `--inh-caps=-all,${caps}`, `--ambient-caps=-all,${caps}`]
  const script = `ip link set lo up; mount -t proc proc ${root}/proc; exec chroot ${root} setpriv "$@"`
  const namespaces = ['--net', '--mount', '--pid', '--fork', '--kill-child', '--uts']
  const words = ['-c', script, 'sh', ...drop, ...may, ...command.split(' ')]
  service = spawn('unshare', [...namespaces, 'sh', ...words], {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
  })
  await until('the service', () => inside(['hades', 'status']), { timeoutMs: 120_000, everyMs: 500 })
}

/** SIGTERM to the program itself, which is the namespace's first process: signals to `unshare` do not reach it. */
async function stopService(): Promise<void> {
  const { stdout } = await execa('ps', ['-o', 'pid=', '--ppid', String(service?.pid)])
  process.kill(Number(stdout.trim()), 'SIGTERM')
  if (service?.exitCode === null) await once(service, 'exit')
  expect(service?.exitCode).toBe(0)
}

async function isThere(path: string): Promise<boolean> {
  return await stat(join(root, path)).then(
    () => true,
    () => false,
  )
}

test('it installs into a bare Debian, with its user, data folder, configuration and unit', async () => {
  await inside(['dpkg', '-i', '/hades.deb'])
  expect((await inside(['hades', '--version'])).stdout).toMatch(/^\d+\.\d+\.\d+$/)
  expect((await inside(['hades', 'config', 'check'])).stdout).toContain(
    'the configuration is good (/etc/hades/hades.yaml)',
  )
  expect((await inside(['stat', '-c', '%U %a', '/var/lib/hades'])).stdout).toBe('hades 700')
  const completion = await inside(['cat', '/usr/share/bash-completion/completions/hades'])
  expect(completion.stdout).toBe((await inside(['hades', 'completion', 'bash'])).stdout)
  const wanted = await inside(['readlink', '/etc/systemd/system/multi-user.target.wants/hades.service'])
  expect(wanted.stdout).toBe('/lib/systemd/system/hades.service')
})

test('systemd finds nothing wrong with the unit and calls it well protected', async () => {
  const verified = await execa('systemd-analyze', ['verify', '--man=no', `--root=${root}`, 'hades.service'], {
    all: true,
  })
  expect(verified.all).toBe('')
  const security = ['security', '--offline=true', '--threshold=25', '--no-pager', `--root=${root}`, 'hades.service']
  const { all, exitCode } = await execa('systemd-analyze', security, { all: true, reject: false })
  expect([exitCode, all]).toEqual([0, expect.stringContaining('OK')])
})

test('it runs as the unit says, serves machines on ports below 1024, and answers the command line', async () => {
  await mkdir(join(root, 'srv/boot/scout'), { recursive: true })
  await mkdir(join(root, 'srv/boot/loaders'))
  const scout = { files: { 'stage2.squashfs': { sha256: '0'.repeat(64) } } }
  await writeFile(join(root, 'srv/boot/scout/scout.json'), JSON.stringify(scout))
  const lines = ['address: 127.0.0.1', 'dhcp: off', 'loaders: /srv/boot/loaders', 'scout: /srv/boot/scout']
  await appendFile(join(root, 'etc/hades/hades.yaml'), `${lines.join('\n')}\n`)
  await startAsUnit()
  const status = await inside(['hades', 'status'])
  expect(status.stdout).toContain('tftp     127.0.0.1:69')
  await inside(['hades', 'host', 'add', 'n01', '--mac', '52:54:00:12:34:56=10.0.0.11', '--power', 'manual'])
  expect((await inside(['stat', '-c', '%U %a', '/var/lib/hades/hades.db'])).stdout).toMatch(
    /^hades 6[04]0$|^hades 644$/,
  )
  await stopService()
})

test('an upgrade keeps what the administrator wrote and what the service knows', async () => {
  await inside(['dpkg', '-i', '/hades.deb'])
  expect(await readFile(join(root, 'etc/hades/hades.yaml'), 'utf8')).toContain('address: 127.0.0.1')
  await startAsUnit()
  expect((await inside(['hades', 'host', 'list'])).stdout).toContain('n01')
  await stopService()
})

test('removing leaves configuration and data, purging leaves nothing but data', async () => {
  await inside(['dpkg', '--remove', 'hades'])
  expect(await isThere('usr/lib/hades')).toBe(false)
  expect(await isThere('etc/hades/hades.yaml')).toBe(true)
  await inside(['dpkg', '--purge', 'hades'])
  const { stdout } = await inside(['find', '/', '-xdev', '-name', '*hades*', '-not', '-path', '/proc/*'])
  const left = stdout.split('\n').filter((path) => path !== '/hades.deb' && !path.startsWith('/var/lib/hades'))
  expect(left).toEqual([])
  expect(await isThere('var/lib/hades/hades.db')).toBe(true)
  expect((await inside(['dpkg', '--audit'])).stdout).toBe('')
})
