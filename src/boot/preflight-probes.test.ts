// The probes against real servers: busybox udhcpd in a namespace of its own, our TFTP server.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import { until } from '../lib/until.ts'
import { askTftp } from './preflight-probes.ts'
import { startTftpServer } from './tftp-server.ts'

/** Two namespaces on one wire; what is run in the second is ended with the test. */
async function wire() {
  const undo = new AsyncDisposableStack()
  const [near, far] = [`pf${process.pid}-n`, `pf${process.pid}-f`]
  for (const namespace of [near, far]) {
    await execa('ip', ['netns', 'add', namespace])
    undo.defer(async () => void (await execa('ip', ['netns', 'del', namespace])))
  }
  await execa('ip', ['-n', near, 'link', 'add', 'near', 'type', 'veth', 'peer', 'name', 'far', 'netns', far])
  for (const [namespace, link, address] of [
    [near, 'near', '10.77.0.1/24'],
    [far, 'far', '10.77.0.2/24'],
  ] as const) {
    await execa('ip', ['-n', namespace, 'address', 'add', address, 'dev', link])
    await execa('ip', ['-n', namespace, 'link', 'set', link, 'up'])
  }
  return { near, far, undo, [Symbol.asyncDispose]: () => undo.disposeAsync() }
}

async function offersSeenIn(namespace: string): Promise<unknown> {
  const program = `const { discoverOffers } = await import(${JSON.stringify(join(import.meta.dirname, 'preflight-probes.ts'))})
    console.log(JSON.stringify(await discoverOffers('10.77.0.1')))`
  const inside = ['netns', 'exec', namespace, process.execPath, '--input-type=module', '-e', program]
  return JSON.parse((await execa('ip', inside, { timeout: 25_000 })).stdout)
}

test('another DHCP server of the network is seen, with what it offers', async () => {
  await using world = await wire()
  const folder = await mkdtemp(join(tmpdir(), 'hades-preflight-'))
  world.undo.defer(() => rm(folder, { recursive: true }))
  const config = join(folder, 'udhcpd.conf')
  const lines = ['start 10.77.0.200', 'end 10.77.0.210', 'interface far', 'siaddr 10.77.0.2', 'boot_file other.efi']
  await writeFile(config, [...lines, `lease_file ${folder}/leases`, `pidfile ${folder}/pid`, ''].join('\n'))
  await writeFile(join(folder, 'leases'), '')
  const server = execa('ip', ['netns', 'exec', world.far, 'busybox', 'udhcpd', '-f', config], { reject: false })
  world.undo.defer(async () => {
    server.kill('SIGKILL')
    await server
  })
  const offers = await until('an offer', async () => ((await offersSeenIn(world.near)) as unknown[])[0], {
    timeoutMs: 25_000,
  })
  expect(offers).toMatchObject({
    server: '10.77.0.2',
    address: expect.stringMatching(/^10\.77\.0\.2/),
    bootFile: 'other.efi',
  })
})

test('a network without another server gives no offer', async () => {
  await using world = await wire()
  expect(await offersSeenIn(world.near)).toEqual([])
})

test('a file that TFTP gives is told with its first block, one that it has not with the words of the server', async () => {
  const resolve = async ({ path }: { path: string }) =>
    path === 'there' ? ({ kind: 'rendered', body: 'x'.repeat(600), mediaType: 'text/plain' } as const) : undefined
  const server = await startTftpServer({ address: '127.0.0.1', port: 0, resolve, onEvent: () => {} })
  const of = { address: '127.0.0.1', port: server.port }
  expect(await askTftp({ ...of, path: 'there' })).toBe('there comes, first block 512 bytes')
  await expect(askTftp({ ...of, path: 'missing' })).rejects.toThrow('file not found')
  await server.close()
  await expect(askTftp({ ...of, path: 'there' })).rejects.toThrow('no answer')
})
