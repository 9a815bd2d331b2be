import { chmod, readFile, truncate, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { unmount } from '../lib/block-devices.ts'
import { attachFailing } from '../lib/failing-disk.ts'
import { causeChain, type Failure } from '../model/failure.ts'
import type { EraseMethod } from '../model/layout.ts'
import { eraseDisk } from './erase.ts'
import { parseSecurity } from './erase-ata.ts'
import { nvmeSecureErase, readAbilities, readSanitizeLog } from './erase-nvme.ts'
import type { SeenDisk } from './inventory.ts'
import { attachLoop, ownFolder } from './test-image.ts'
import { createBuffers } from './write.ts'

const mebibyte = 1024 * 1024
const sizeBytes = 32 * mebibyte
const signal = new AbortController().signal

let folder: string
let closers: (() => Promise<void>)[]
const path = process.env.PATH ?? ''
beforeEach(async () => {
  const own = await ownFolder()
  folder = own.folder
  closers = [own.remove]
})
afterEach(async () => {
  process.env.PATH = path
  for (const close of closers.reverse()) await close()
})

/** A loop device full of 0xa5, seen as a disk on this bus. */
async function createDisk(transport?: string, place = folder): Promise<{ disk: SeenDisk; backing: string }> {
  const backing = join(place, 'disk.raw')
  const loop = await attachLoop(backing, sizeBytes, 512)
  closers.push(loop.detach)
  const disk = { path: loop.device, sizeBytes, sectorBytes: 512, rotational: false, ...(transport && { transport }) }
  return { disk, backing }
}

async function erase(disk: SeenDisk, method: Exclude<EraseMethod, 'none'>) {
  const told: string[] = []
  const progress: number[] = []
  const { zeros } = createBuffers(1)
  const tell = async (kind: string, text: string) => void told.push(`${kind}: ${text}`)
  const erasure = await eraseDisk({ disk, method, zeros, tell, onProgress: (n) => void progress.push(n) }, signal)
  return { ...erasure, told, progress }
}

/** A program of this name, first on the path: what it does stands in `script`, what it was called with in `calls`. */
async function putProgram(name: string, script: string): Promise<{ calls: () => Promise<string[]> }> {
  const calls = join(folder, 'calls')
  await writeFile(join(folder, name), `#!/bin/sh\ncd ${folder}\necho "$*" >> calls\n${script}\n`)
  await chmod(join(folder, name), 0o755)
  process.env.PATH = `${folder}:${path}`
  return { calls: async () => (await readFile(calls, 'utf8')).trim().split('\n') }
}

test.each(['zero', 'discard'] as const)(
  'a disk is erased by %s, reads as zeros, and what was seen is told',
  async (method) => {
    const { disk, backing } = await createDisk()
    const { text, told, progress } = await erase(disk, method)
    const bytes = await readFile(backing)
    expect(bytes.every((byte) => byte === 0)).toBe(true)
    expect(text).toMatch(/by (zeros|discard): of (\d+) places read, \2 held something before; \2 read as zeros now$/)
    expect(told.map((line) => line.split(':')[0])).toEqual(['erasing', 'erased'])
    // One step of the method has all of it.
    expect(progress).toEqual([sizeBytes, sizeBytes])
  },
)

test('a disk that cannot discard is zeroed by writing, and is not called erased by a discard', async () => {
  // A file system in memory that has no holes.
  const plain = join(folder, 'plain')
  await execa('mkdir', [plain])
  await execa('mount', ['-t', 'ramfs', 'hades-agent-test', plain])
  closers.push(() => unmount(plain))
  const { disk, backing } = await createDisk(undefined, plain)
  const queue = `/sys/block/${basename(disk.path)}/queue/discard_max_bytes`
  expect((await readFile(queue, 'utf8')).trim()).toBe('0')
  await expect(erase(disk, 'discard')).rejects.toMatchObject({
    code: 'bad-input',
    message: expect.stringMatching(/cannot be erased by discard: it cannot discard; choose erase="zero"$/),
  })
  expect((await readFile(backing)).every((byte) => byte === 0xa5)).toBe(true)
  const { told, progress } = await erase(disk, 'zero')
  expect((await readFile(backing)).every((byte) => byte === 0)).toBe(true)
  expect(told.map((line) => line.split(':')[0])).toEqual(['erasing', 'erased'])
  expect(progress.at(-1)).toBe(sizeBytes)
})

test('where the system refuses to make zeros of a range they are written', async () => {
  const { disk, backing } = await createDisk()
  await putProgram('blkdiscard', 'exit 1')
  await erase(disk, 'zero')
  expect((await readFile(backing)).every((byte) => byte === 0)).toBe(true)
})

test.each([
  ['zero', 'does not read as zeros'],
  ['discard', 'reads as before'],
] as const)('a disk that takes %s and does nothing is found out', async (method, words) => {
  const { disk } = await createDisk()
  await putProgram('blkdiscard', 'exit 0')
  const failure = await erase(disk, method).catch((error: unknown) => error)
  expect(failure).toMatchObject({ code: 'disk-error', message: expect.stringContaining(words) })
})

test('a place that takes no zeros fails the erase, named with its offset', async () => {
  const file = join(folder, 'failing.raw')
  await writeFile(file, Buffer.alloc(sizeBytes, 0xa5))
  const { device, detach } = await attachFailing(file, [
    { on: 'write', offset: sizeBytes / 2 },
    { on: 'write-zeroes', offset: sizeBytes / 2 },
  ])
  closers.push(detach)
  const disk = { path: device, sizeBytes, sectorBytes: 512, rotational: false }
  const failure = await erase(disk, 'zero').catch((error: unknown) => error)
  expect(failure).toMatchObject({
    code: 'disk-error',
    message: expect.stringMatching(new RegExp(`at offset \\d+ of ${device}$`)),
  })
})

/** A disk of zeros that is gone when so many bytes of it are erased: 0 for before the first. */
async function createVanishing(bytes: number, goneAt: number) {
  const file = join(folder, 'vanishing.raw')
  await writeFile(file, '')
  await truncate(file, bytes)
  const { device, detach, vanish } = await attachFailing(file, [])
  closers.push(detach)
  const disk = { path: device, sizeBytes: bytes, sectorBytes: 512, rotational: false }
  const told: string[] = []
  const work = {
    disk,
    zeros: createBuffers(1).zeros,
    tell: async (kind: string) => {
      told.push(kind)
      if (goneAt === 0) await vanish()
    },
    onProgress: (done: number) => {
      if (done >= goneAt) void vanish()
    },
  }
  return { disk, told, work }
}

test.each([
  ['zero', 16 * 1024 * mebibyte, 256 * mebibyte, /^write \d+ bytes at offset (\d+) of .*: EIO/],
  ['zero', 256 * mebibyte, 0, /^write \d+ bytes at offset (\d+) of .*: EIO/],
  [
    'discard',
    1024 * 1024 * mebibyte,
    16 * 1024 * mebibyte,
    /^discard \d+ bytes at offset (\d+) of .*Input\/output error/s,
  ],
] as const)(
  'a disk that vanishes in the middle of %s of %i bytes ends the erase by its name and offset',
  async (method, bytes, goneAt, words) => {
    const { disk, told, work } = await createVanishing(bytes, goneAt)
    const failure = await eraseDisk({ ...work, method }, signal).catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'disk-error' })
    const chain = causeChain(failure).join(': ')
    expect(chain).toContain(disk.path)
    expect(Number(words.exec(chain)?.[1]), chain).toBeGreaterThanOrEqual(goneAt)
    expect(told).toEqual(['erasing'])
  },
)

test.each(['zero', 'discard'] as const)(
  'a disk that vanishes and still takes %s is not called erased',
  async (method) => {
    await putProgram('blkdiscard', 'exit 0')
    const { disk, told, work } = await createVanishing(sizeBytes, 0)
    const failure = await eraseDisk({ ...work, method }, signal).catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'disk-error' })
    expect(causeChain(failure).join(': ')).toMatch(
      new RegExp(`(flush|read 4096 bytes at offset 0 of) ${disk.path}: EIO`),
    )
    expect(told).toEqual(['erasing'])
  },
)

test('secure is refused where the bus has none, with what there is instead, and nothing is written', async () => {
  const { disk, backing } = await createDisk('virtio')
  const failure = await erase(disk, 'secure').catch((error: unknown) => error)
  expect(failure).toMatchObject({ code: 'bad-input', at: 'erase' })
  expect((failure as Failure).message).toMatch(
    /cannot be erased by secure: a disk on virtio has no secure erase.*choose erase="zero"/,
  )
  expect((await readFile(backing)).every((byte) => byte === 0xa5)).toBe(true)
})

describe('an ATA disk', () => {
  // As hdparm 9.65 prints it, tabs and all.
  const security = (state: { enabled?: boolean; frozen?: boolean; enhanced?: boolean }) =>
    [
      '',
      '/dev/sda:',
      '',
      'ATA device, with non-removable media',
      'Commands/features:',
      '\t   *\tSecurity Mode feature set',
      'Security: ',
      '\tMaster password revision code = 65534',
      '\t\tsupported',
      `\t${state.enabled ? '' : 'not'}\tenabled`,
      '\tnot\tlocked',
      `\t${state.frozen ? '' : 'not'}\tfrozen`,
      '\tnot\texpired: security count',
      state.enhanced ? '\t\tsupported: enhanced erase' : '\tnot\tsupported: enhanced erase',
      '\t2min for SECURITY ERASE UNIT. 8min for ENHANCED SECURITY ERASE UNIT. ',
      'Logical Unit WWN Device Identifier: 5002538e00000000',
      'Checksum: correct',
      '',
    ].join('\n')

  test('says of its security what hdparm prints', () => {
    expect(parseSecurity(security({ enhanced: true }))).toEqual({
      isSupported: true,
      isEnabled: false,
      isLocked: false,
      isFrozen: false,
      hasEnhanced: true,
      minutes: 2,
      enhancedMinutes: 8,
    })
    expect(parseSecurity(security({ frozen: true, enabled: true }))).toMatchObject({
      isFrozen: true,
      isEnabled: true,
      hasEnhanced: false,
    })
    expect(parseSecurity('\n/dev/sda:\n\nATA device\nChecksum: correct\n')).toMatchObject({ isSupported: false })
  })

  /** hdparm as a drive answers: it takes a password, and loses it with the erase, which `erases` does or not. */
  const hdparm = async (device: string, erases: string, state: Parameters<typeof security>[0] = { enhanced: true }) => {
    await writeFile(join(folder, 'clear.txt'), security(state))
    await writeFile(join(folder, 'enabled.txt'), security({ ...state, enabled: true }))
    return await putProgram(
      'hdparm',
      `case "$*" in
        -I*) if [ -e locked ]; then cat enabled.txt; else cat clear.txt; fi ;;
        *--security-set-pass*) touch locked ;;
        *--security-erase*) ${erases.replace('DEVICE', device)} && rm locked ;;
        *--security-disable*) rm locked ;;
      esac`,
    )
  }

  test('is erased by the enhanced erase where it has one', async () => {
    const { disk } = await createDisk('sata')
    const { calls } = await hdparm(disk.path, 'head -c 32M /dev/urandom | dd of=DEVICE bs=1M conv=fsync 2>/dev/null')
    const { text } = await erase(disk, 'secure')
    expect(text).toMatch(/by ATA enhanced secure erase: .*; 0 read as zeros now, none of the others as before$/)
    expect(await calls()).toEqual([
      `-I ${disk.path}`,
      `--user-master u --security-set-pass hades ${disk.path}`,
      `--user-master u --security-erase-enhanced hades ${disk.path}`,
      `-I ${disk.path}`,
    ])
  })

  test('that says it is erased and reads as before is found out', async () => {
    const { disk } = await createDisk('sata')
    await hdparm(disk.path, 'true')
    await expect(erase(disk, 'secure')).rejects.toMatchObject({
      code: 'disk-error',
      message: expect.stringMatching(/erased by ATA enhanced secure erase, and offset 0 reads as before/),
    })
  })

  test('that refuses in the middle is not left with a password', async () => {
    const { disk } = await createDisk('sata')
    const { calls } = await hdparm(disk.path, 'false')
    await expect(erase(disk, 'secure')).rejects.toMatchObject({ code: 'disk-error' })
    expect((await calls()).at(-1)).toBe(`--user-master u --security-disable hades ${disk.path}`)
  })

  test('that is frozen is refused with what can be done', async () => {
    const { disk, backing } = await createDisk('sata')
    await hdparm(disk.path, 'true', { frozen: true })
    await expect(erase(disk, 'secure')).rejects.toMatchObject({
      code: 'bad-input',
      message: expect.stringMatching(/its security is frozen, as firmware does/),
    })
    expect((await readFile(backing)).every((byte) => byte === 0xa5)).toBe(true)
  })
})

describe('an NVMe disk', () => {
  const disk: SeenDisk = { path: '/dev/nvme3n1', sizeBytes, sectorBytes: 512, rotational: false, transport: 'nvme' }

  const identify = (fields: { sanitize?: number; commands?: number; format?: number }) => {
    const bytes = Buffer.alloc(4096)
    bytes.writeUInt16LE(fields.commands ?? 0, 256)
    bytes.writeUInt32LE(fields.sanitize ?? 0, 328)
    bytes.writeUInt8(fields.format ?? 0, 524)
    return bytes
  }
  const sanitizeLog = (status: number, progress: number) => {
    const bytes = Buffer.alloc(20)
    bytes.writeUInt16LE(progress, 0)
    bytes.writeUInt16LE(status, 2)
    return bytes
  }

  /** nvme-cli on a controller of these abilities with so many namespaces. */
  const nvme = async (fields: Parameters<typeof identify>[0], namespaces = 1) => {
    await writeFile(join(folder, 'identify'), identify(fields))
    const list = Buffer.alloc(4096)
    for (let at = 0; at < namespaces; at += 1) list.writeUInt32LE(at + 1, at * 4)
    await writeFile(join(folder, 'namespaces'), list)
    await writeFile(join(folder, 'running'), sanitizeLog(0x102, 16_384))
    await writeFile(join(folder, 'done'), sanitizeLog(0x101, 65_535))
    return await putProgram(
      'nvme',
      `case "$1" in
        id-ctrl) cat identify ;;
        admin-passthru) cat namespaces ;;
        get-log) if [ -e asked ]; then cat done; else touch asked; cat running; fi ;;
      esac`,
    )
  }

  test('tells what it can in its structures', () => {
    expect(readAbilities(identify({ sanitize: 3, commands: 0x0a, format: 5 }))).toEqual({
      canSanitizeBlocks: true,
      canSanitizeKey: true,
      canFormat: true,
      canFormatKey: true,
      formatsAll: true,
    })
    expect(readSanitizeLog(sanitizeLog(0x102, 32_768))).toEqual({ state: 'running', part: 0.5 })
    expect([1, 3, 4, 0].map((status) => readSanitizeLog(sanitizeLog(status, 65_535)).state)).toEqual([
      'done',
      'failed',
      'done',
      'never',
    ])
  })

  test('is sanitized, and watched until it says that it is done', async () => {
    const { calls } = await nvme({ sanitize: 2, commands: 2 })
    const means = await nvmeSecureErase(disk, signal)
    expect(means.words).toBe('NVMe sanitize (block erase)')
    const parts: number[] = []
    await means.run((part) => void parts.push(part), signal)
    expect(parts).toEqual([0.25])
    const made = (await calls()).map((call) => call.split(' ').slice(0, 3).join(' '))
    expect(made.slice(2)).toEqual([
      'sanitize /dev/nvme3 --sanact=2',
      'get-log /dev/nvme3 --log-id=0x81',
      'get-log /dev/nvme3 --log-id=0x81',
    ])
  })

  test.each([
    { name: 'without sanitize is formatted', fields: { commands: 2 }, words: 'NVMe format (user data erase)' },
    { name: 'with keys is formatted by them', fields: { commands: 2, format: 4 }, words: 'NVMe format (crypto erase)' },
    { name: 'with crypto sanitize only uses that', fields: { sanitize: 1 }, words: 'NVMe sanitize (crypto erase)' },
  ])('$name', async ({ fields, words }) => {
    await nvme(fields)
    expect((await nvmeSecureErase(disk, signal)).words).toBe(words)
  })

  test('beside others on its controller is formatted alone, or refused', async () => {
    await nvme({ sanitize: 3, commands: 2 }, 2)
    expect((await nvmeSecureErase(disk, signal)).words).toBe('NVMe format (user data erase)')
    await nvme({ sanitize: 3, commands: 2, format: 3 }, 3)
    await expect(nvmeSecureErase(disk, signal)).rejects.toMatchObject({
      code: 'bad-input',
      message: expect.stringMatching(/would erase the 2 other namespaces of \/dev\/nvme3 too/),
    })
  })

  test('that can neither is refused', async () => {
    await nvme({})
    await expect(nvmeSecureErase(disk, signal)).rejects.toThrow(/neither sanitize nor format/)
  })
})
