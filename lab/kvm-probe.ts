// Whether KVM really runs a guest here. The device node tells little: a kernel with PVM offers /dev/kvm on a processor
// without virtualisation, where an ordinary guest is interpreted one instruction at a time and dies on the first one that
// KVM's interpreter does not know. So a guest of 256 bytes is booted that uses such an instruction and then counts.
import { spawn } from 'node:child_process'
import { constants } from 'node:fs'
import { access, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Accelerator } from './qemu-command.ts'

// Assembled from the following; it needs no firmware, which alone would take seconds where it is interpreted.
//   reset:  jmp to stub; stub: copy the 256 bytes of `guest` to 0x7c00 and jump there
//   guest, 16 bit: clear 0x1000-0x4fff, make an identity map of 2 MiB there (PML4, PDPT, PD), enter long mode
//   guest, 64 bit: lock cmpxchg16b [0x4000]          KVM's interpreter has no 16-byte form of it
//                  mov ecx, 50000000; dec ecx; jnz   50 ms on a processor, a minute when interpreted
//                  mov al, 0x2a; out 0xf4, al        isa-debug-exit: QEMU ends with status 0x2a * 2 + 1
const romParts: Readonly<Record<number, string>> = {
  64768:
    'fafc31c08ed88ec08ed0bc007cbf0010b9002031c0f3ab66c70600100320000066c70600200330000066c70600308300000066b800100000' +
    '0f22d866b8200000000f22e066b9800000c00f32660d000100000f300f0116987c66b8010000800f22c0ea677c0800f0480fc70c25004000' +
    '00b980f0fa02ffc975fcb02ae6f4f4ebfd0f1f8000000000000000000000000000000000009a20000f00887c00000000',
  65024: 'fafc31c08ec0be00fdbf007cb980002ef3a5ea007c0000',
  65520: 'e90dfe',
}
const statusOfSuccess = 0x2a * 2 + 1

const probeMs = 5_000 // Under a second on an idle machine, with KVM and without.

/** A firmware image of 64 KiB that is nothing but the probe. */
export function probeRom(): Buffer {
  const rom = Buffer.alloc(0x10000)
  for (const [offset, code] of Object.entries(romParts)) rom.write(code, Number(offset), 'hex')
  return rom
}

export type ProbeVerdict = { readonly runs: boolean; readonly why: string }

/** Boots the probe once with this accelerator. Throws when QEMU cannot be started at all. */
export async function probe(accel: Accelerator, options: { timeoutMs?: number } = {}): Promise<ProbeVerdict> {
  const folder = await mkdtemp(join(tmpdir(), 'hades-lab-probe-'))
  try {
    const file = join(folder, 'probe.rom')
    await writeFile(file, probeRom())
    return await bootProbe(accel, file, options.timeoutMs ?? probeMs)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function bootProbe(accel: Accelerator, file: string, timeoutMs: number): Promise<ProbeVerdict> {
  const machine = ['-machine', 'q35', '-accel', accel, '-cpu', accel === 'kvm' ? 'host' : 'qemu64', '-m', '32']
  const exit = ['-device', 'isa-debug-exit,iobase=0xf4,iosize=4']
  const plain = ['-nodefaults', '-no-user-config', '-display', 'none']
  return new Promise((resolve, reject) => {
    // A guest that is stuck must not outlive us, however we end.
    const qemu = spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', '--', 'qemu-system-x86_64', ...plain, ...machine, '-bios', file, ...exit],
      {
        stdio: ['ignore', 'ignore', 'pipe'],
        timeout: timeoutMs,
        killSignal: 'SIGKILL',
      },
    )
    let said = ''
    qemu.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(0, 4096)
      // QEMU stops the guest on this, but does not end.
      if (said.includes('KVM internal error')) qemu.kill('SIGKILL')
    })
    qemu.once('error', reject)
    qemu.once('close', (status) => {
      if (status === statusOfSuccess) resolve({ runs: true, why: 'the probe guest ran' })
      else resolve({ runs: false, why: said.trim().split('\n').slice(0, 2).join(', ') || `no end in ${timeoutMs} ms` })
    })
  })
}

/** The accelerator to use on this machine, and the reason in words. */
export async function chooseAccelerator(
  wanted: 'auto' | Accelerator,
): Promise<{ readonly accel: Accelerator; readonly why: string }> {
  if (wanted !== 'auto') return { accel: wanted, why: 'the lab file says so' }
  const isOpen = await access('/dev/kvm', constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  )
  if (!isOpen) return { accel: 'tcg', why: '/dev/kvm is not there or not ours' }
  const verdict = await probe('kvm')
  return { accel: verdict.runs ? 'kvm' : 'tcg', why: `KVM: ${verdict.why}` }
}
