// Boots one virtual machine from the network as a real one boots, through its firmware and a loader, and prints when it
// reached each stage, in seconds since power-on. Everything runs in QEMU's user networking: no root, no bridge.
//   node scout/measure.ts bios-ipxe | bios-grub | bios-pxelinux | uefi-grub | uefi-ipxe
//     [--target scout|local|local:N|hold|netboot:NAME] [--profile FILE.json --files FOLDER] [--fs-uuid UUID] [--part-uuid UUID] [--disk FILE]...
//     [--until REGEXP] [--arg KERNEL-ARGUMENT]... [--memory 1024] [--timeout 120]
import { spawn } from 'node:child_process'
import { createReadStream, readFileSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, normalize, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { finished, pipeline } from 'node:stream/promises'
import { parseArgs, stripVTControlCharacters } from 'node:util'
import { renderScript } from '../src/boot/render-script.ts'
import { type BootScript, netbootOf, scoutKernelArgs, scriptLoaders, scriptPathFor } from '../src/boot/scripts.ts'
import { parseBootTarget, partsOf } from '../src/model/boot.ts'
import { checkProfile, fillArguments, type NetbootProfile } from '../src/model/profile.ts'

const build = resolve(import.meta.dirname, '../build')
const mac = '52:54:00:12:34:56'
/** QEMU's user networking shows the loopback interface of this machine to the guest at this address. */
const hostAddress = '10.0.2.2'

/** How the machine comes to its script: its firmware, its network card's ROM and the file that DHCP names. */
const paths = {
  'bios-ipxe': { isUefi: false, rom: 'ipxe', bootFile: (url: string) => `${url}/${scriptPathFor('ipxe', mac)}` },
  'bios-grub': { isUefi: false, rom: 'ipxe', bootFile: () => 'grubpc.0' },
  'bios-pxelinux': { isUefi: false, rom: 'ipxe', bootFile: () => 'lpxelinux.0' },
  'uefi-grub': { isUefi: true, rom: 'none', bootFile: () => 'grubx64.efi' },
  'uefi-ipxe': { isUefi: true, rom: 'ipxe', bootFile: (url: string) => `${url}/${scriptPathFor('ipxe', mac)}` },
} as const

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    target: { type: 'string', default: 'scout' },
    scout: { type: 'string', default: join(build, 'scout/current') },
    profile: { type: 'string' },
    files: { type: 'string' },
    'fs-uuid': { type: 'string' },
    'part-uuid': { type: 'string' },
    disk: { type: 'string', multiple: true, default: [] },
    until: { type: 'string' },
    arg: { type: 'string', multiple: true, default: [] },
    memory: { type: 'string', default: '1024' },
    timeout: { type: 'string', default: '120' },
  },
})
const path = paths[positionals[0] as keyof typeof paths] ?? usage()
const target = partsOf(parseBootTarget(values.target, '--target'))
/** The agent's own first line ends a boot of the scout: its code runs. Other targets end by --until or by the time. */
const end = new RegExp(values.until ?? (target.kind === 'scout' ? '^(?!hades-scout:)' : '$^'))
const folder = await mkdtemp(join(tmpdir(), 'hades-measure-'))
const started = performance.now()
try {
  process.exitCode = await measure()
} finally {
  await rm(folder, { recursive: true, force: true })
}

async function measure(): Promise<number> {
  const server = createServer((request, response) => {
    const name = normalize(decodeURIComponent((request.url ?? '/').replace(/^\/boot\//, '')))
    if (name.startsWith('..') || name.startsWith('/')) return void response.writeHead(404).end()
    serve(join(folder, name), response).then(
      () => note(`HTTP ${request.headers['user-agent']?.split('/')[0] ?? ''} ${name} sent`),
      (error: unknown) => note(`HTTP ${name}: ${String(error)}`),
    )
  })
  server.listen(0, '127.0.0.1')
  await new Promise((done) => server.once('listening', done))
  const bootUrl = `http://${hostAddress}:${(server.address() as AddressInfo).port}/boot`
  try {
    await fillBootFolder(bootUrl)
    return await boot(path.bootFile(bootUrl))
  } finally {
    server.close()
    server.closeAllConnections()
  }
}

/** The boot namespace as the service offers it, with the scripts of this one machine. */
async function fillBootFolder(bootUrl: string): Promise<void> {
  for (const name of [
    'lpxelinux.0',
    'ldlinux.c32',
    'undionly.kpxe',
    'snponly.efi',
    'grubx64.efi',
    'grubpc.0',
    'ipxe.lkrn',
  ]) {
    await copyFile(join(build, 'loaders', name), join(folder, name))
  }
  await symlink(resolve(values.scout), join(folder, 'scout'))
  const { files } = JSON.parse(await readFile(join(values.scout, 'scout.json'), 'utf8')) as {
    files: Record<string, { sha256: string }>
  }
  const args = [
    ...scoutKernelArgs,
    'hades.host=measured',
    `hades.mac=${mac}`,
    `hades.service=${bootUrl.replace(/\/boot$/, '')}`,
    'hades.token=none',
    `hades.stage2=${bootUrl}/scout/stage2.squashfs`,
    `hades.stage2.sha256=${files['stage2.squashfs']?.sha256 ?? ''}`,
    ...values.arg,
  ]
  const script = await scriptOf(bootUrl, args)
  for (const loader of scriptLoaders) {
    const file = join(folder, scriptPathFor(loader, mac))
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, renderScript(loader, script))
  }
}

async function scriptOf(bootUrl: string, scoutArgs: readonly string[]): Promise<BootScript> {
  const common = { host: { name: 'measured', mac }, bootUrl } as const
  switch (target.kind) {
    case 'scout':
      return {
        ...common,
        target: 'scout',
        kernelPath: 'scout/vmlinuz',
        initrdPaths: ['scout/stage1.img'],
        args: scoutArgs,
      }
    case 'partition':
      return {
        ...common,
        target: 'partition',
        partition: target.partition,
        fsUuid: values['fs-uuid'],
        partUuid: values['part-uuid'],
      }
    case 'netboot': {
      const profile = JSON.parse(await readFile(values.profile ?? usage(), 'utf8')) as NetbootProfile
      checkProfile(profile)
      await mkdir(join(folder, 'netboot'))
      await symlink(resolve(values.files ?? usage()), join(folder, 'netboot', profile.name))
      const words = { host: 'measured', mac, macDashes: mac.replaceAll(':', '-'), ip: '10.0.2.15' }
      const urls = { service: bootUrl.replace(/\/boot$/, ''), bootUrl, filesUrl: `${bootUrl}/netboot/${profile.name}` }
      const args = fillArguments(profile, { ...words, ...urls, scoutArguments: scoutArgs.join(' ') })
      return { ...common, ...netbootOf(profile, args) }
    }
    case 'local':
    case 'hold':
      return { ...common, target: target.kind }
  }
}

async function boot(bootFile: string): Promise<number> {
  const machine = ['-accel', 'tcg,thread=multi', '-machine', 'q35,graphics=off', '-cpu', 'qemu64', '-m', values.memory]
  const card = `virtio-net-pci,netdev=n0,mac=${mac},bootindex=0${path.rom === 'none' ? ',romfile=' : ''}`
  const network = ['-netdev', `user,id=n0,tftp=${folder},bootfile=${bootFile}`, '-device', card]
  const disk = values.disk.flatMap((file, index) => [
    '-drive',
    `if=none,id=d${index},file=${file},format=raw,snapshot=on`,
    '-device',
    `virtio-blk-pci,drive=d${index},bootindex=${index + 1}`,
  ])
  const quiet = ['-display', 'none', '-monitor', 'none', '-serial', 'stdio', '-no-reboot', '-device', 'virtio-rng-pci']
  const qemu = spawn('qemu-system-x86_64', [...machine, ...(await firmware()), ...network, ...disk, ...quiet], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const timer = setTimeout(() => qemu.kill('SIGKILL'), Number(values.timeout) * 1000)
  let isReached = false
  let isAgentStarted = target.kind !== 'scout' || values.until !== undefined
  for await (const raw of createInterface({ input: qemu.stdout })) {
    // Firmware paints its screen with escape sequences.
    const line = stripVTControlCharacters(raw)
      .replace(/[^ -~]/g, '')
      .trim()
    if (line === '') continue
    note(line, processorSeconds(qemu.pid))
    if (isAgentStarted && end.test(line)) {
      isReached = true
      break
    }
    if (line.includes('hades-scout: agent starts')) isAgentStarted = true
  }
  clearTimeout(timer)
  qemu.kill('SIGKILL')
  await finished(qemu.stdout).catch(() => undefined)
  note(isReached ? 'reached' : 'not reached: the machine went off or its time was over')
  return isReached ? 0 : 1
}

async function firmware(): Promise<string[]> {
  if (!path.isUefi) return []
  const variables = join(folder, 'vars.fd')
  await copyFile('/usr/share/OVMF/OVMF_VARS_4M.fd', variables)
  const flash = (file: string) => ['-drive', `if=pflash,format=raw,file=${file}`]
  return [...flash('/usr/share/OVMF/OVMF_CODE_4M.fd,readonly=on'), ...flash(variables)]
}

async function serve(file: string, response: import('node:http').ServerResponse): Promise<void> {
  const found = await stat(file).catch(() => undefined)
  if (!found?.isFile()) {
    response.writeHead(404).end()
    throw new Error('404')
  }
  response.writeHead(200, { 'content-length': found.size })
  await pipeline(createReadStream(file), response)
}

/** Processor time that QEMU has used: on a busy machine it says more than the clock. */
function processorSeconds(pid: number | undefined): number {
  // The second field, the command's name, may contain spaces; fields 14 and 15 are user and system time in 1/100 s.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) / 100
}

function note(text: string, processor?: number): void {
  const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(6)
  process.stdout.write(`${seconds} ${(processor?.toFixed(1) ?? '').padStart(6)}  ${text.slice(0, 200)}\n`)
}

function usage(): never {
  process.stderr.write(`usage: node scout/measure.ts ${Object.keys(paths).join(' | ')} (options are in the file)\n`)
  process.exit(2)
}
