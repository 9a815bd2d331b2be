// The lab: machines with firmware, disks and BMCs in a network namespace of its own, on this one computer. Everything it
// keeps is in one folder, and everything it made goes away with `destroyLab`, also when it was killed half-way. The BMCs
// switch the machines; this module only lays the wires. `node lab/lab.ts --help` is its command line.
import { createHash, randomBytes } from 'node:crypto'
import { copyFile, mkdir, open, readdir, readFile, realpath, rename, rm, rmdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { Command } from 'commander'
import { execa } from 'execa'
import { causeChain, Failure } from '../src/model/failure.ts'
import { bmcIsRunning, startBmc } from './bmc.ts'
import { type LabConfig, type MachineConfig, readLabConfig } from './config.ts'
import { attachConsole } from './console.ts'
import { chooseAccelerator } from './kvm-probe.ts'
import { whileLocked } from './lock.ts'
import {
  clearNamespace,
  createNetwork,
  destroyNetwork,
  inNamespace,
  namespaceExists,
  startRouterAdvertisements,
} from './network.ts'
import { endProcess, readRecorded } from './process.ts'
import { type Accelerator, firmwareVariables, machineSettings } from './qemu-command.ts'
import { requireTools } from './requirements.ts'

export type LabMachine = MachineConfig & {
  readonly folder: string
  /** DMI system UUID, lower case. */
  readonly uuid: string
  /** Unix socket of the serial console, there while the machine is on. */
  readonly console: string
  /** All that the serial console ever said; lines `=== time event ===` part the boots. */
  readonly consoleLog: string
  /** Raw files of the disks, in the order of the lab file. */
  readonly diskFiles: readonly string[]
}

export type Lab = {
  readonly folder: string
  readonly config: LabConfig
  /** Network namespace; `ip netns exec <namespace> ...` runs a program in the lab. */
  readonly namespace: string
  readonly accel: Accelerator
  readonly accelWhy: string
  readonly bmc: { readonly username: string; readonly passwordFile: string }
  readonly machines: readonly LabMachine[]
}

export type MachineStatus = {
  readonly name: string
  readonly power: 'on' | 'off'
  readonly pid: number | undefined
  readonly bmcRuns: boolean
  /** The boot device that the BMC has set for the next boot. */
  readonly bootOnce: 'network' | 'disk' | undefined
}

export type LabStatus = {
  readonly namespaceExists: boolean
  readonly machines: readonly MachineStatus[]
}

const stateFile = 'lab.json'
const passwordFile = 'bmc-password'
const ourFiles = [`${stateFile}.new`, passwordFile, 'machines', 'radvd']

// A unix socket's path takes 107 bytes (unix(7)), and `/machines/<16>/console.sock` is the longest end of ours.
const folderBytesMax = 107 - 41

type State = Pick<Lab, 'config' | 'accel' | 'accelWhy'>

function labOf(folder: string, { config, accel, accelWhy }: State): Lab {
  const machines = config.machines.map((machine): LabMachine => {
    const own = join(folder, 'machines', machine.name)
    const hex = createHash('sha256').update(`${config.network}/${machine.mac}`).digest('hex')
    const uuid = [
      hex.slice(0, 8),
      hex.slice(8, 12),
      `4${hex.slice(13, 16)}`,
      `8${hex.slice(17, 20)}`,
      hex.slice(20, 32),
    ]
    return {
      ...machine,
      folder: own,
      uuid: uuid.join('-'),
      console: join(own, 'console.sock'),
      consoleLog: join(own, 'console.log'),
      diskFiles: machine.disks.map((_, index) => join(own, `disk${index}.raw`)),
    }
  })
  const bmc = { username: config.bmcUsername, passwordFile: join(folder, passwordFile) }
  return { folder, config, namespace: config.network, accel, accelWhy, bmc, machines }
}

async function prepareFolder(folder: string): Promise<string> {
  await mkdir(folder, { recursive: true })
  const real = await realpath(folder)
  if (!/^[\w./+-]+$/.test(real) || real.length > folderBytesMax) {
    throw new Failure(
      'bad-input',
      `the lab cannot live in ${real}: sockets and ipmi_sim need a path of at most ${folderBytesMax} letters, digits and . _ + - /`,
      { at: 'folder' },
    )
  }
  return real
}

async function writeMachine(lab: Lab, machine: LabMachine, index: number): Promise<void> {
  await mkdir(machine.folder, { recursive: true, mode: 0o700 })
  for (const [disk, file] of machine.diskFiles.entries()) {
    const handle = await open(file, 'w', 0o600)
    try {
      await handle.truncate(machine.disks[disk]?.sizeBytes)
    } finally {
      await handle.close()
    }
  }
  if (machine.firmware === 'uefi') await copyFile(firmwareVariables, join(machine.folder, 'vars.fd'))
  const place = { folder: machine.folder, tap: `tap${index}`, uuid: machine.uuid, accel: lab.accel }
  await writeFile(join(machine.folder, 'machine.bash'), machineSettings(machine, place))
  await writeFile(machine.consoleLog, '')
}

async function writeState(folder: string, state: State): Promise<void> {
  // The password has a file of its own with narrower rights.
  const config = { ...state.config, bmcPassword: undefined }
  await writeFile(join(folder, `${stateFile}.new`), `${JSON.stringify({ ...state, config }, null, 2)}\n`)
  await rename(join(folder, `${stateFile}.new`), join(folder, stateFile))
}

async function build(lab: Lab): Promise<void> {
  const password = lab.config.bmcPassword ?? randomBytes(12).toString('base64url').slice(0, 16)
  await writeFile(lab.bmc.passwordFile, `${password}\n`, { mode: 0o600 })
  await createNetwork(lab.config, lab.folder)
  await startRouterAdvertisements(lab.namespace, join(lab.folder, 'radvd'))
  const account = { username: lab.bmc.username, password }
  for (const [index, machine] of lab.machines.entries()) {
    await writeMachine(lab, machine, index)
    await startBmc(machine, { namespace: lab.namespace, account })
  }
}

/**
 * Makes the lab and starts its BMCs; all machines are off. `folder` is made, or must be empty. Throws Failure
 * `already-exists` when the folder or the network's name is taken by a lab in which something runs, `in-use` when another process works on either,
 * `bad-input` when the folder will not do. What a failure leaves half made is removed.
 */
export async function createLab(config: LabConfig, folder: string): Promise<Lab> {
  await requireTools(config)
  const real = await prepareFolder(folder)
  return whileLocked(`the lab in ${real}`, () =>
    whileLocked(`network ${config.network}`, async () => {
      const inside = await readdir(real)
      if (inside.includes(stateFile)) {
        throw new Failure('already-exists', `a lab is in ${real} already: remove it first with \`down\``, {
          at: 'folder',
        })
      }
      if (inside.length > 0) throw new Failure('bad-input', `${real} is not empty: the lab wants a folder of its own`)
      await clearNamespace(config.network)
      const { accel, why } = await chooseAccelerator(config.accel)
      const state: State = { config, accel, accelWhy: why }
      // Written first, so that `down` knows what to look for whenever this process ends.
      await writeState(real, state)
      const lab = labOf(real, state)
      try {
        await build(lab)
      } catch (cause) {
        await remove(lab)
        throw cause
      }
      return lab
    }),
  )
}

/** The lab that was made in `folder`. Throws Failure `bad-input` when there is none. */
export async function openLab(folder: string): Promise<Lab> {
  const real = await realpath(folder).catch(() => resolve(folder))
  const text = await readFile(join(real, stateFile), 'utf8').catch((cause: unknown) => {
    throw new Failure('bad-input', `no lab is in ${real}: make one with \`up\``, { at: 'folder', cause })
  })
  return labOf(real, JSON.parse(text) as State) // Written by writeState and nobody else.
}

async function machineStatus(machine: LabMachine): Promise<MachineStatus> {
  const qemu = await readRecorded(join(machine.folder, 'qemu.pid'))
  const once = (await readFile(join(machine.folder, 'boot.once'), 'utf8').catch(() => '')).trim()
  return {
    name: machine.name,
    power: qemu === undefined ? 'off' : 'on',
    pid: qemu?.pid,
    bmcRuns: await bmcIsRunning(machine.folder),
    bootOnce: once === 'network' || once === 'disk' ? once : undefined,
  }
}

/** What is true of the lab at this moment, from the process table. */
export async function labStatus(lab: Lab): Promise<LabStatus> {
  return {
    namespaceExists: await namespaceExists(lab.namespace),
    machines: await Promise.all(lab.machines.map(machineStatus)),
  }
}

async function remove(lab: Lab): Promise<void> {
  // BMCs first: they could start a machine that was just ended.
  const records = ['bmc/process', 'qemu.pid'].flatMap((name) => lab.machines.map(({ folder }) => join(folder, name)))
  for (const file of [join(lab.folder, 'radvd/process'), ...records]) {
    const found = await readRecorded(file)
    if (found !== undefined) await endProcess(found)
  }
  await destroyNetwork(lab.namespace, lab.folder)
  // The state goes last: while it is there, a removal that was cut short can be repeated.
  for (const name of [...ourFiles, stateFile]) await rm(join(lab.folder, name), { recursive: true, force: true })
  await rmdir(lab.folder).catch(() => undefined) // Somebody else's file keeps the folder; it is not ours to remove.
}

/**
 * Ends and removes all that the lab of `folder` made, and the folder when nothing else is in it. Answers whether there
 * was a lab. Throws Failure `in-use` when another process works on it.
 */
export async function destroyLab(folder: string): Promise<boolean> {
  const real = await realpath(folder).catch(() => undefined)
  if (real === undefined) return false
  return whileLocked(`the lab in ${real}`, async () => {
    const inside = await readdir(real)
    if (!inside.includes(stateFile)) return false
    const lab = await openLab(real)
    await whileLocked(`network ${lab.namespace}`, () => remove(lab))
    return true
  })
}

async function printStatus(lab: Lab): Promise<void> {
  const status = await labStatus(lab)
  const password = status.namespaceExists ? '' : ' (gone: remove the rest with `down`)'
  console.log(`lab ${lab.folder}, network namespace ${lab.namespace}${password}, ${lab.accel} (${lab.accelWhy})`)
  console.log(`BMCs: user ${lab.bmc.username}, password in ${lab.bmc.passwordFile}`)
  for (const machine of lab.machines) {
    const now = status.machines.find(({ name }) => name === machine.name)
    const next = now?.bootOnce === undefined ? '' : `, next boot from ${now.bootOnce}`
    const bmc = `BMC ${machine.bmcAddress}${now?.bmcRuns ? '' : ' (dead)'}`
    console.log(`${machine.name} ${now?.power} ${machine.firmware} ${machine.mac} ${machine.address} ${bmc}${next}`)
  }
}

function commandLine(): Command {
  const program = new Command('lab').description(
    'virtual machines with firmware, disks and BMCs in a network of their own',
  )
  program.option('--folder <folder>', 'where the lab keeps everything', 'build/lab')
  const folder = () => program.opts<{ folder: string }>().folder
  program
    .command('up <file>')
    .description('make the lab of this file; its machines are off')
    .action(async (file: string) => printStatus(await createLab(readLabConfig(await readFile(file, 'utf8')), folder())))
  program
    .command('status')
    .description('what runs')
    .action(async () => printStatus(await openLab(folder())))
  program
    .command('down')
    .description('end and remove all of it')
    .action(async () => console.log((await destroyLab(folder())) ? 'the lab is gone' : `no lab is in ${folder()}`))
  program
    .command('console <machine>')
    .description('join the serial console; Ctrl-] leaves')
    .action(async (name: string) => {
      const { machines } = await openLab(folder())
      const machine = machines.find((machine) => machine.name === name)
      if (!machine)
        throw new Failure('unknown-host', `no machine ${name}; there are ${machines.map((m) => m.name).join(', ')}`)
      await attachConsole(machine.console, name)
    })
  program
    .command('exec <command...>')
    .description('run a command inside the network, as: exec -- ipmitool ...')
    .action(async (command: string[]) => {
      const [ip = '', ...rest] = inNamespace((await openLab(folder())).namespace, command)
      const child = await execa(ip, rest, { stdio: 'inherit', reject: false })
      process.exitCode = child.exitCode ?? 1
    })
  return program
}

if (import.meta.main) {
  try {
    await commandLine().parseAsync()
  } catch (error) {
    for (const sentence of causeChain(error)) console.error(`lab: ${sentence}`)
    process.exitCode = 1
  }
}
