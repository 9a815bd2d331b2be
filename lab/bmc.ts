// The BMC of each machine: OpenIPMI's ipmi_sim, which speaks IPMI 2.0 (RMCP+) on an address of its own and switches the
// machine by chassis.sh. One process a BMC, so that one can be stopped or killed and the others answer on.
import { mkdir, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { until } from '../src/lib/until.ts'
import type { MachineConfig } from './config.ts'
import { inNamespace, listensOnUdp } from './network.ts'
import { readRecorded, startRecorded } from './process.ts'

export const bmcPort = 623

const chassisProgram = fileURLToPath(new URL('./chassis.sh', import.meta.url))

export type BmcAccount = { readonly username: string; readonly password: string }

/** What a BMC knows of its machine; `folder` is where chassis.sh finds it. */
export type BmcMachine = MachineConfig & { readonly folder: string; readonly uuid: string }

/** ipmi_sim's configuration (ipmi_lan(5)). Without the `guid` line it answers no IPMI 2.0 session. */
export function bmcSettings(machine: BmcMachine, account: BmcAccount): string {
  return `name "${machine.name}"
set_working_mc 0x20
  startlan 1
    addr ${machine.bmcAddress} ${bmcPort}
    priv_limit admin
    allowed_auths_callback md5
    allowed_auths_user md5
    allowed_auths_operator md5
    allowed_auths_admin md5
    guid ${machine.uuid.replaceAll('-', '')}
  endlan
  chassis_control "${chassisProgram} ${machine.folder}"
  startnow false
  user 2 true "${account.username}" "${account.password}" admin 10 md5
`
}

/** ipmi_sim's start commands (ipmi_sim_cmd(5)): one management controller with an event log. */
export const bmcCommands = `mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
`

/** Starts the machine's BMC and waits until it listens. The machine stays off. */
export async function startBmc(
  machine: BmcMachine,
  options: { namespace: string; account: BmcAccount },
): Promise<void> {
  const folder = `${machine.folder}/bmc`
  await mkdir(`${folder}/state`, { recursive: true, mode: 0o700 })
  await writeFile(`${folder}/lan.conf`, bmcSettings(machine, options.account), { mode: 0o600 })
  await writeFile(`${folder}/commands`, bmcCommands)
  const command = ['ipmi_sim', '-n', '-c', `${folder}/lan.conf`, '-f', `${folder}/commands`, '-s', `${folder}/state`]
  const { pid } = await startRecorded(inNamespace(options.namespace, command), `${folder}/process`, `${folder}/log`)
  await until(
    `the BMC of ${machine.name} to listen on ${machine.bmcAddress} (log: ${folder}/log)`,
    () => listensOnUdp(pid, machine.bmcAddress, bmcPort),
    { timeoutMs: 10_000, everyMs: 20 },
  )
}

export async function bmcIsRunning(machineFolder: string): Promise<boolean> {
  return (await readRecorded(`${machineFolder}/bmc/process`)) !== undefined
}
