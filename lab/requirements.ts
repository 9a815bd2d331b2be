// What the lab needs of the computer it runs on, checked before anything is made, so that the answer is one apt-get line.
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import type { LabConfig } from './config.ts'
import { firmwareCode, firmwareVariables } from './qemu-command.ts'

function isThere(path: string, mode: number): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  )
}

async function hasProgram(name: string): Promise<boolean> {
  // Administrators' programs are not in everyone's PATH on Debian.
  for (const folder of [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin']) {
    if (await isThere(join(folder, name), constants.X_OK)) return true
  }
  return false
}

const programs = { 'qemu-system-x86_64': 'qemu-system-x86', ipmi_sim: 'openipmi', ip: 'iproute2', radvd: 'radvd' }

/** The Debian packages that this lab needs and that are not installed. */
export async function missingPackages(config: LabConfig): Promise<string[]> {
  const missing = new Set<string>()
  for (const [program, debianPackage] of Object.entries(programs)) {
    if (!(await hasProgram(program))) missing.add(debianPackage)
  }
  const files: [file: string, debianPackage: string, isNeeded: boolean][] = [
    [firmwareCode, 'ovmf', config.machines.some((machine) => machine.firmware === 'uefi')],
    [firmwareVariables, 'ovmf', config.machines.some((machine) => machine.firmware === 'uefi')],
    ['/usr/lib/ipxe/qemu/efi-virtio.rom', 'ipxe-qemu', config.machines.some((machine) => machine.rom === 'ipxe')],
  ]
  for (const [file, debianPackage, isNeeded] of files) {
    if (isNeeded && !(await isThere(file, constants.R_OK))) missing.add(debianPackage)
  }
  return [...missing]
}

/** Throws with what to do when the lab cannot run here. */
export async function requireTools(config: LabConfig): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('the lab makes a network namespace, which takes root: run it as root')
  const missing = await missingPackages(config)
  if (missing.length > 0) {
    throw new Error(`the lab needs: apt-get install --no-install-recommends ${missing.join(' ')}`)
  }
}
