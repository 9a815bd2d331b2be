// What of the machines' network and of the files that machines boot can be looked at from here, as a machine would see it.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { access, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { askTftp, discoverOffers } from '../boot/preflight-probes.ts'
import { causeChain } from '../model/failure.ts'
import { couldNotLook, judgeOffers, type PreflightCheck } from '../model/preflight.ts'

export type MachineSide = {
  /** Undefined: no machine is served. */
  readonly address: string | undefined
  readonly httpPort: number
  readonly tftpPort: number
  readonly dhcp: 'full' | 'off'
  readonly loaders: string
  readonly scout: string
  /** The digest of stage 2 that machines are told. */
  readonly stage2Sha256: string | undefined
}

const answerMs = 5_000
/** What the DHCP server names to firmware (src/boot/dhcp-answer.ts). */
const loaderFiles = ['lpxelinux.0', 'grubpc.0', 'grubx64.efi', 'undionly.kpxe', 'snponly.efi']
const probeFile = 'lpxelinux.0'

/** All checks of the machines' side; each ends within some seconds. */
export async function machineChecks(side: MachineSide): Promise<PreflightCheck[]> {
  const { address } = side
  if (address === undefined) {
    const says = 'no machine is served: the service was started without --address'
    return [
      { name: 'boot services', outcome: 'failure', says, fix: 'hades up --address <this machine on their network>' },
    ]
  }
  const checks = await Promise.all([
    addressChecks(address),
    dhcpCheck(address, side.dhcp),
    tftpCheck(address, side.tftpPort),
    httpCheck(address, side.httpPort),
    servicePortCheck(address, side.httpPort),
    loadersCheck(side.loaders),
    scoutCheck(side),
  ])
  return checks.flat()
}

type Link = {
  readonly ifname?: string
  readonly mtu?: number
  readonly operstate?: string
  readonly addr_info?: readonly { readonly local?: string }[]
}

async function addressChecks(address: string): Promise<PreflightCheck[]> {
  const name = 'address'
  let links: readonly Link[]
  try {
    links = JSON.parse(
      (await execa('ip', ['-json', 'address', 'show'], { timeout: answerMs })).stdout,
    ) as readonly Link[]
  } catch (error) {
    return [couldNotLook(name, causeChain(error).join(': '), 'Install iproute2.')]
  }
  const link = links.find(({ addr_info = [] }) => addr_info.some(({ local }) => local === address))
  if (link === undefined) {
    const fix = 'Give the address back to this machine, or start the service with the one it has.'
    return [{ name, outcome: 'failure', says: `this machine has no address ${address}`, fix }]
  }
  const { ifname = 'an interface', mtu = 0, operstate = 'UNKNOWN' } = link
  const isDown = operstate === 'DOWN' || operstate === 'LOWERLAYERDOWN'
  return [
    isDown
      ? {
          name,
          outcome: 'failure',
          says: `${address} is on ${ifname}, whose link is down`,
          fix: 'The cable, or the first port of the bridge.',
        }
      : { name, outcome: 'ok', says: `${address} is on ${ifname}` },
    mtuCheck(ifname, mtu),
  ]
}

function mtuCheck(ifname: string, mtu: number): PreflightCheck {
  const name = 'mtu'
  const says = `${ifname} has an MTU of ${mtu}`
  if (mtu === 1500 || ifname === 'lo') return { name, outcome: 'ok', says }
  const fix =
    mtu > 1500
      ? 'See that every switch and every machine has it too: firmware has 1500, and what is larger is lost without a word.'
      : 'Firmware sends up to 1500 bytes: raise it, unless the whole network has it so.'
  return { name, outcome: 'warning', says, fix }
}

async function dhcpCheck(address: string, dhcp: 'full' | 'off'): Promise<PreflightCheck> {
  try {
    return judgeOffers(await discoverOffers(address), { ours: address, dhcp })
  } catch (error) {
    return couldNotLook('dhcp servers', causeChain(error).join(': '), 'It takes UDP 68 and the right to use it (root).')
  }
}

async function tftpCheck(address: string, port: number): Promise<PreflightCheck> {
  const name = 'tftp'
  try {
    return { name, outcome: 'ok', says: await askTftp({ address, port, path: probeFile }) }
  } catch (error) {
    const says = `${address}:${port} gives no ${probeFile}: ${causeChain(error).join(': ')}`
    return { name, outcome: 'failure', says, fix: 'A firewall on this machine, or a loader that is missing.' }
  }
}

async function httpCheck(address: string, port: number): Promise<PreflightCheck> {
  const name = 'http boot'
  return await httpAnswers(name, `http://${address}:${port}/boot/${probeFile}`)
}

async function servicePortCheck(address: string, port: number): Promise<PreflightCheck> {
  return await httpAnswers('service port', `http://${address}:${port}/service?wsdl`)
}

async function httpAnswers(name: string, url: string): Promise<PreflightCheck> {
  const fix = 'A firewall on this machine, or a file that is missing.'
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(answerMs), redirect: 'error' })
    await answer.body?.cancel()
    if (answer.ok) return { name, outcome: 'ok', says: `${url} answers` }
    return { name, outcome: 'failure', says: `${url} answers ${answer.status}`, fix }
  } catch (error) {
    return { name, outcome: 'failure', says: `${url} does not answer: ${causeChain(error).join(': ')}`, fix }
  }
}

async function loadersCheck(folder: string): Promise<PreflightCheck> {
  const name = 'loaders'
  const missing: string[] = []
  for (const file of loaderFiles) {
    const size = await stat(join(folder, file)).then(
      (found) => found.size,
      () => 0,
    )
    if (size === 0) missing.push(file)
  }
  if (missing.length === 0) return { name, outcome: 'ok', says: `${folder} has all ${loaderFiles.length}` }
  const says = `${folder} lacks ${missing.join(', ')}`
  return { name, outcome: 'failure', says, fix: 'make build makes them.' }
}

async function scoutCheck({ scout, stage2Sha256 }: MachineSide): Promise<PreflightCheck> {
  const name = 'scout'
  const fix = 'Build the scout again (make build), then restart the service.'
  try {
    const { files } = JSON.parse(await readFile(join(scout, 'scout.json'), 'utf8')) as {
      files?: Readonly<Record<string, { readonly sha256?: string }>>
    }
    const stage2 = files?.['stage2.squashfs']?.sha256
    if (stage2 !== stage2Sha256) {
      const says = 'stage 2 was built anew after the service was started: machines are told the digest of the old one'
      return { name, outcome: 'failure', says, fix: 'Restart the service.' }
    }
    await Promise.all(['vmlinuz', 'stage1.img'].map((file) => access(join(scout, file))))
    for (const [file, { sha256 }] of Object.entries(files ?? {})) {
      if (sha256 !== undefined && (await sha256OfFile(join(scout, file))) !== sha256) {
        return {
          name,
          outcome: 'failure',
          says: `${join(scout, file)} is damaged: its digest is not the one it was built with`,
          fix,
        }
      }
    }
    return { name, outcome: 'ok', says: `${scout} is whole` }
  } catch (error) {
    return { name, outcome: 'failure', says: `${scout} is not whole: ${causeChain(error).join(': ')}`, fix }
  }
}

async function sha256OfFile(file: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer)
  return hash.digest('hex')
}
