// Real firmware takes our answers: QEMU machines, each alone on a wire with the DHCP server, come as far as asking for the
// boot file. What they then load is the business of other tests.
import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import { until } from '../src/lib/until.ts'
import type { Loader } from '../src/model/host.ts'
import { openDhcpWorld } from './dhcp-world.ts'

const mac = '52:54:00:77:00:01'
const biosWithIpxeRom = () => ['-device', `virtio-net-pci,netdev=n0,mac=${mac},bootindex=0`]

/** An empty `romfile` leaves the card to OVMF's own driver and PXE client. */
async function uefi(folder: string): Promise<string[]> {
  const variables = join(folder, 'vars.fd')
  await copyFile('/usr/share/OVMF/OVMF_VARS_4M.fd', variables)
  return [
    ['-drive', 'if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd'],
    ['-drive', `if=pflash,format=raw,unit=1,file=${variables}`],
    ['-device', `virtio-net-pci,netdev=n0,mac=${mac},bootindex=0,romfile=`],
  ].flat()
}

/** UEFI that is told to skip PXE and goes on to HTTP boot. */
async function uefiHttp(folder: string): Promise<string[]> {
  const skipPxe = ['IPv4PXESupport', 'IPv6PXESupport'].map((name) => `name=opt/org.tianocore/${name},string=n`)
  return [...(await uefi(folder)), ...skipPxe.flatMap((setting) => ['-fw_cfg', setting])]
}

/** Starts the machine, waits until it asks for a boot file, and gives the file's URL and the events up to it. */
async function firstAsked(loader: Loader, firmware: (folder: string) => string[] | Promise<string[]>) {
  const reservation = { host: 'n01', hostId: 1, address: '10.77.0.11', bootTarget: 'scout', loader } as const
  await using world = await openDhcpWorld('tap', { reservations: { [mac]: reservation } })
  const folder = await mkdtemp(join(tmpdir(), 'hades-firmware-'))
  const common = ['-accel', 'tcg', '-machine', 'q35,graphics=off', '-cpu', 'qemu64', '-m', '256', '-display', 'none']
  const net = ['-netdev', `tap,id=n0,ifname=${world.machineInterface},script=no,downscript=no`]
  const args = [...common, '-nodefaults', ...net, ...(await firmware(folder))]
  const machine = execa('ip', ['netns', 'exec', world.machineNamespace, 'qemu-system-x86_64', ...args], {
    reject: false,
  })
  try {
    // TCG on a busy machine is slow. On a quiet one OVMF asks after 9 s, iPXE after 19 s, of which 16 s are its wait for an
    // IPv6 router.
    const url = await until('a request for a boot file', () => world.asked()[0], { timeoutMs: 90_000, everyMs: 100 })
    return { url, events: world.events() }
  } finally {
    machine.kill('SIGKILL')
    await machine
    await rm(folder, { recursive: true })
  }
}

test.concurrent.each([
  ['iPXE of a BIOS machine', biosWithIpxeRom, 'auto', 'ipxe', 'bios', 'http:/boot/ipxe/52-54-00-77-00-01'],
  ['iPXE of a BIOS machine with loader pxelinux', biosWithIpxeRom, 'pxelinux', 'ipxe', 'bios', 'tftp:lpxelinux.0'],
  ['the PXE client of a UEFI machine', uefi, 'auto', 'pxe', 'uefi-x64', 'tftp:grubx64.efi'],
  ['the HTTP boot of a UEFI machine', uefiHttp, 'auto', 'http-boot', 'uefi-x64', 'http:/boot/grubx64.efi'],
] as const)(
  '%s takes offer and ack and asks for its boot file',
  // OVMF 2022.11 sometimes hears nothing at all for a whole boot, whichever DHCP server answers; it takes a new boot.
  { retry: 1 },
  async (_, firmware, loader, kind, arch, url) => {
    const seen = await firstAsked(loader, firmware)
    expect(seen.url).toBe(url)
    const common = { client: { kind, arch }, address: '10.77.0.11', bootFile: expect.stringContaining(url.slice(5)) }
    expect(seen.events.at(0)).toMatchObject({ ...common, kind: 'dhcp.discover', answer: 'offer' })
    expect(seen.events.at(-1)).toMatchObject({ ...common, kind: 'dhcp.request', answer: 'ack' })
  },
)
