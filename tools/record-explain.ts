// Records the cases of `hades explain`: `node tools/record-explain.ts [name ...]` runs each on a small site in namespaces of
// its own, some at a time, and writes its story beside the rules. Needs root, nftables, ipmi_sim; takes some minutes.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { execa } from 'execa'
import pLimit from 'p-limit'
import { type ExplainCase, explainCases } from '../test/explain-cases.ts'
import { address, mac, openSite } from '../test/explain-world.ts'

const folder = join(import.meta.dirname, '..', 'src', 'model', 'explain', 'testdata')
const atOnce = Number(process.env.AT_ONCE ?? 4)
const caseMs = 400_000

type Namespaces = { readonly server: string; readonly machine: string; readonly other: string }

function namespacesOf(index: number): Namespaces {
  const name = `ex${process.pid}-${index}`
  return { server: `${name}-s`, machine: `${name}-m`, other: `${name}-o` }
}

async function wire({ server, machine, other }: Namespaces, { stp, name }: ExplainCase): Promise<void> {
  for (const namespace of [server, machine, other]) {
    await execa('ip', ['netns', 'add', namespace])
    await execa('ip', ['-n', namespace, 'link', 'set', 'lo', 'up'])
  }
  const ip = (...args: string[]) => execa('ip', ['-n', server, ...args])
  const delay =
    stp === undefined ? ['stp_state', '0', 'forward_delay', '0'] : ['stp_state', '1', 'forward_delay', `${stp}`]
  await ip('link', 'add', 'br0', 'mtu', '1500', 'type', 'bridge', ...delay)
  for (const [end, namespace] of [
    ['machine', machine],
    ['other', other],
  ] as const) {
    await ip('link', 'add', `p-${end}`, 'type', 'veth', 'peer', 'name', end, 'netns', namespace)
    await ip('link', 'set', `p-${end}`, 'master', 'br0', 'up')
    await execa('ip', ['-n', namespace, 'link', 'set', end, 'up'])
  }
  await ip('address', 'add', `${address}/24`, 'dev', 'br0')
  await ip('link', 'set', 'br0', 'up')
  if (name === 'mtu-black-hole') await ip('link', 'set', 'p-machine', 'mtu', '600')
  await ip('link', 'set', 'br0', 'mtu', '1500')
  await execa('ip', ['-n', machine, 'link', 'set', 'machine', 'address', mac])
}

/** In the namespaces: runs one case and prints its fixture. */
async function runCase(one: ExplainCase, namespaces: Namespaces): Promise<void> {
  const site = await openSite({ namespaces, ...(one.dhcp === undefined ? {} : { dhcp: one.dhcp }) })
  try {
    await one.run(site)
    const story = await site.story(one.console)
    process.stdout.write(`${JSON.stringify({ expected: one.expected, how: one.how.trim(), story }, undefined, 1)}\n`)
  } finally {
    await site.close()
  }
}

async function record(one: ExplainCase, index: number): Promise<void> {
  const namespaces = namespacesOf(index)
  try {
    await wire(namespaces, one)
    const inside = [process.execPath, fileURLToPath(import.meta.url), '--inside', one.name, JSON.stringify(namespaces)]
    const { stdout } = await execa('ip', ['netns', 'exec', namespaces.server, ...inside], {
      timeout: caseMs,
      stderr: 'inherit',
      // Loopback only: a proxy of this computer is none of the small site's.
      env: { no_proxy: '*', NO_PROXY: '*' },
    })
    await writeFile(join(folder, `${one.name}.json`), `${stdout}\n`)
    process.stderr.write(`${one.name}: recorded\n`)
  } catch (error) {
    process.exitCode = 1
    process.stderr.write(`${one.name}: ${error instanceof Error ? error.message.slice(0, 2000) : String(error)}\n`)
  } finally {
    for (const namespace of Object.values(namespaces)) await execa('ip', ['netns', 'del', namespace], { reject: false })
  }
}

const [first, name, given] = process.argv.slice(2)
if (first === '--inside') {
  const one = explainCases.find((one) => one.name === name)
  if (!one) throw new Error(`there is no case ${name}`)
  await runCase(one, JSON.parse(given ?? '{}'))
} else {
  const names = process.argv.slice(2)
  await mkdir(folder, { recursive: true })
  const limit = pLimit(atOnce)
  const wanted = explainCases.filter((one) => names.length === 0 || names.includes(one.name))
  await Promise.all(wanted.map((one, index) => limit(() => record(one, index))))
}
