// The lab with real firmware, real BMCs and the demo's Debian: what later stories rest on. Needs root; boots two machines.
import { spawn } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readLabConfig } from '../lab/config.ts'
import { createLab, destroyLab, type Lab, type LabMachine, labStatus, openLab } from '../lab/lab.ts'
import { inNamespace, namespaceExists, processesInside } from '../lab/network.ts'
import { buildOsImage } from '../lab/os-image/build.ts'
import { endProcess, startRecorded, startTimeOf } from '../lab/process.ts'
import { until } from '../src/lib/until.ts'

const network = `lab-test-${process.pid}`
const program = new URL('../lab/lab.ts', import.meta.url).pathname
const twoMachines = `
network: ${network}
subnet: 10.79.0.0/24
machines:
  - { name: old, firmware: bios, memory: 512, disks: [1GiB] }
  - { name: new, firmware: uefi, memory: 512, disks: [1GiB] }
`

/** Runs a command in the lab's network and gives what it printed; throws when it fails. */
async function inside(lab: Lab, command: string[], env: Record<string, string> = {}): Promise<string> {
  const [ip = '', ...rest] = inNamespace(lab.namespace, command)
  return (await execa(ip, rest, { env, timeout: 60_000 })).stdout
}

async function ipmi(lab: Lab, machine: LabMachine, ...command: string[]): Promise<string> {
  const password = (await readFile(lab.bmc.passwordFile, 'utf8')).trim()
  const session = ['-I', 'lanplus', '-C', '3', '-H', machine.bmcAddress, '-U', lab.bmc.username, '-E']
  return inside(lab, ['ipmitool', ...session, 'chassis', ...command], { IPMI_PASSWORD: password })
}

async function powerOf(lab: Lab, machine: LabMachine): Promise<string> {
  return (await ipmi(lab, machine, 'power', 'status')).replace('Chassis Power is ', '')
}

async function pidOf(lab: Lab, machine: LabMachine): Promise<number | undefined> {
  const status = await labStatus(lab)
  return status.machines.find(({ name }) => name === machine.name)?.pid
}

/** What the console said since its last line `=== time <event> ===`. */
async function consoleSince(machine: LabMachine, event: string): Promise<string | undefined> {
  const log = await readFile(machine.consoleLog, 'latin1')
  const start = log.lastIndexOf(` ${event}`)
  return start < 0 ? undefined : log.slice(start)
}

/** As `until`, and shows the end of the machine's console when it was in vain. */
async function untilMachine<T>(machine: LabMachine, what: string, probe: () => Promise<T | undefined>): Promise<T> {
  return until(`${machine.name}: ${what}`, probe, { timeoutMs: 240_000, everyMs: 250 }).catch(
    async (cause: unknown) => {
      const lines = (await readFile(machine.consoleLog, 'latin1')).split('\n').slice(-30)
      throw new Error(`${machine.name} showed no ${what}; its console ends so:\n${lines.join('\n')}`, { cause })
    },
  )
}

async function waitForConsole(machine: LabMachine, event: string, words: string): Promise<void> {
  await untilMachine(machine, `"${words}" after ${event}`, async () =>
    (await consoleSince(machine, event))?.includes(words) ? true : undefined,
  )
}

async function sshBanner(lab: Lab, machine: LabMachine): Promise<string> {
  const read = `exec 3<>/dev/tcp/${machine.address}/22 && read -r -t 5 line <&3 && echo "$line"`
  return (await inside(lab, ['bash', '-c', read])).trim()
}

async function waitForDebian(lab: Lab, machine: LabMachine): Promise<void> {
  await untilMachine(machine, 'SSH banner with its name', async () =>
    (await sshBanner(lab, machine)).endsWith(` ${machine.name}`) ? true : undefined,
  )
}

/** Gives addresses and names as a site's DHCP server does, and nothing to boot from. */
async function startDhcp(lab: Lab, folder: string): Promise<void> {
  const leases = lab.machines.map(({ mac, address, name }) => `static_lease ${mac} ${address} ${name}`)
  const range = [`interface br0`, `start ${lab.machines[0]?.address}`, `end ${lab.machines.at(-1)?.address}`]
  const files = [`lease_file ${folder}/leases`, `pidfile ${folder}/pid`]
  await writeFile(join(folder, 'leases'), '')
  await writeFile(join(folder, 'conf'), `${[...range, ...leases, ...files].join('\n')}\n`)
  const command = inNamespace(lab.namespace, ['busybox', 'udhcpd', '-f', join(folder, 'conf')])
  await startRecorded(command, join(folder, 'process'), join(folder, 'log'))
}

function machinesOf(lab: Lab): { old: LabMachine; fresh: LabMachine } {
  const [old, fresh] = lab.machines
  if (old === undefined || fresh === undefined) throw new Error('the lab has two machines')
  return { old, fresh }
}

describe('a lab with one machine of each firmware', () => {
  let scratch: string
  let lab: Lab
  let key: string

  beforeAll(async () => {
    const debian = await buildOsImage()
    key = debian.key
    scratch = await mkdtemp(join(tmpdir(), 'hades-lab-test-'))
    lab = await createLab(readLabConfig(twoMachines), join(scratch, 'lab'))
    await startDhcp(lab, scratch)
    for (const { diskFiles } of lab.machines) {
      await execa('cp', ['--sparse=always', debian.image, diskFiles[0] ?? ''])
    }
  })

  afterAll(async () => {
    await destroyLab(join(scratch, 'lab'))
    await rm(scratch, { recursive: true })
  })

  test('the BMC says what is true of the machine and switches it', async () => {
    const { old } = machinesOf(lab)
    expect(await powerOf(lab, old)).toBe('off')
    await ipmi(lab, old, 'power', 'on')
    expect(await powerOf(lab, old)).toBe('on')
    const first = await pidOf(lab, old)
    expect(first).toBeTypeOf('number')

    await ipmi(lab, old, 'power', 'on')
    expect(await pidOf(lab, old)).toBe(first)

    await ipmi(lab, old, 'power', 'cycle')
    const second = await until('the cycled machine', () => pidOf(lab, old), { timeoutMs: 20_000 })
    expect(second).not.toBe(first)

    process.kill(second, 'SIGKILL')
    await until('the killed machine to be off', async () => (await powerOf(lab, old)) === 'off', { timeoutMs: 5_000 })
    await ipmi(lab, old, 'power', 'on')
    await ipmi(lab, old, 'power', 'off')
    expect(await powerOf(lab, old)).toBe('off')
    expect(await pidOf(lab, old)).toBeUndefined()
  })

  test('the BMC refuses a wrong password', async () => {
    const { old } = machinesOf(lab)
    const session = ['-I', 'lanplus', '-C', '3', '-H', old.bmcAddress, '-U', lab.bmc.username, '-E']
    const ask = inside(lab, ['ipmitool', ...session, 'chassis', 'power', 'status'], { IPMI_PASSWORD: 'wrong' })
    await expect(ask).rejects.toThrow('Unable to establish')
  })

  test('a boot device set by the BMC holds for one boot, and the guest’s own reboot follows the machine’s order', async () => {
    await Promise.all(
      lab.machines.map(async (machine) => {
        const isBios = machine.firmware === 'bios'
        await ipmi(lab, machine, 'bootdev', 'disk')
        await ipmi(lab, machine, 'power', 'on')
        await waitForDebian(lab, machine)
        expect(await consoleSince(machine, 'power on, disk first')).not.toMatch(/iPXE initialising|Start PXE/)

        await ssh(machine, 'systemctl --no-block reboot')
        await waitForConsole(
          machine,
          'reset: guest-reset',
          isBios ? 'iPXE initialising devices' : 'Start PXE over IPv4',
        )

        // Set while the machine runs, used by the next reset.
        await ipmi(lab, machine, 'bootdev', 'disk')
        await ipmi(lab, machine, 'power', 'reset')
        await waitForConsole(machine, 'reset: host-qmp-system-reset', `${machine.name} login:`)
        expect(await consoleSince(machine, 'reset: host-qmp-system-reset')).not.toMatch(/iPXE initialising|Start PXE/)
      }),
    )
  })

  test('somebody at the serial console is heard', async () => {
    const { old } = machinesOf(lab)
    const socket = connect(old.console)
    let heard = ''
    socket.setEncoding('latin1').on('data', (text) => {
      heard += text
    })
    socket.write('somebody\r')
    await until('the prompt for a password', () => heard.includes('Password:'), { timeoutMs: 60_000 })
    socket.destroy()
  })

  test('a soft shutdown lets the system end itself', async () => {
    const { old } = machinesOf(lab)
    await ipmi(lab, old, 'power', 'soft')
    await until('the machine to be off', async () => (await powerOf(lab, old)) === 'off', { timeoutMs: 120_000 })
    expect(await consoleSince(old, 'shutdown: guest-shutdown')).toBeTypeOf('string')
  })

  test('after everything was killed at once, the removal leaves nothing', async () => {
    const running = await processesInside(lab.namespace)
    expect(running.length).toBeGreaterThan(4)
    for (const { pid } of running) process.kill(pid, 'SIGKILL')
    expect(await destroyLab(lab.folder)).toBe(true)
    await expectNoTrace(lab.folder, running)
    expect(await destroyLab(lab.folder)).toBe(false)
  })

  async function ssh(machine: LabMachine, command: string): Promise<void> {
    const options = ['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR']
    await inside(lab, ['ssh', '-i', key, ...options, `root@${machine.address}`, command])
  }
})

async function expectNoTrace(
  folder: string,
  processes: readonly { pid: number; startTime: string }[] = [],
): Promise<void> {
  expect(await namespaceExists(network)).toBe(false)
  expect(await readFile('/proc/self/mountinfo', 'utf8')).not.toContain(network)
  for (const { pid, startTime } of processes) expect(await startTimeOf(pid)).not.toBe(startTime)
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    expect(line).not.toContain(`${folder}/`)
  }
  expect(await readdir(folder).catch((error: NodeJS.ErrnoException) => error.code)).toBe('ENOENT')
}

describe('making and removing', () => {
  let scratch: string
  beforeAll(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'hades-lab-test-'))
    await writeFile(join(scratch, 'lab.yaml'), twoMachines)
  })
  afterAll(() => rm(scratch, { recursive: true }))

  test('a lab that was killed while it was made is removed without a trace', async () => {
    const folder = join(scratch, 'killed')
    for (const afterMs of [150, 250, 300, 350, 400, 450, 500, 600, 800]) {
      const making = spawn(process.execPath, [program, '--folder', folder, 'up', join(scratch, 'lab.yaml')], {
        stdio: 'ignore',
        timeout: afterMs,
        killSignal: 'SIGKILL',
      })
      await new Promise((done) => making.once('close', done))
      await destroyLab(folder)
      await rm(folder, { recursive: true, force: true }) // Killed before it had written anything, it leaves it empty.
      await expectNoTrace(folder)
    }
  })

  test('of two that make the same lab at once one succeeds', async () => {
    const config = readLabConfig(twoMachines)
    const folder = join(scratch, 'twice')
    const made = await Promise.allSettled([createLab(config, folder), createLab(config, folder)])
    expect(made.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    const lab = await openLab(folder)
    expect((await labStatus(lab)).machines.every(({ bmcRuns }) => bmcRuns)).toBe(true)

    await expect(createLab(config, folder)).rejects.toThrow('remove it first')
    await expect(createLab(config, join(scratch, 'other'))).rejects.toThrow(`belongs to the lab in ${lab.folder}`)
    expect(await destroyLab(join(scratch, 'other'))).toBe(false)
    expect((await labStatus(lab)).machines.every(({ bmcRuns }) => bmcRuns)).toBe(true)

    expect(await destroyLab(folder)).toBe(true)
    await expectNoTrace(folder)
  })

  test('a lab whose processes were all ended from without makes way for the next of its name', async () => {
    const config = readLabConfig(twoMachines)
    const [dead, next] = [join(scratch, 'dead'), join(scratch, 'next')]
    await createLab(config, dead)
    for (const one of await processesInside(network)) await endProcess(one)
    const lab = await createLab(config, next)
    expect(await destroyLab(dead)).toBe(true)
    expect((await labStatus(lab)).machines.every(({ bmcRuns }) => bmcRuns)).toBe(true)
    expect(await destroyLab(next)).toBe(true)
    await expectNoTrace(next)
  })

  test('a folder with something else in it is left alone', async () => {
    await expect(createLab(readLabConfig(twoMachines), scratch)).rejects.toThrow('is not empty')
    expect(await readdir(scratch)).toContain('lab.yaml')
    expect(await namespaceExists(network)).toBe(false)
  })
})
