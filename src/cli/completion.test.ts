// Completion against a real service: what is offered where, and the three shells themselves, each on a terminal of its own.
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { inProcess } from '../client/client.ts'
import { controlPort } from '../contract/control.ts'
import { Secret } from '../lib/secret.ts'
import { until } from '../lib/until.ts'
import { controlHandlers } from '../operations/control.ts'
import { onceRunner } from '../operations/once.ts'
import { nameImage, openTestWorld, type TestWorld } from '../operations/testing.ts'
import { served } from '../ports/dispatch.ts'
import { authenticateByToken, type PortServer, servePorts } from '../ports/http.ts'
import { complete } from './completion.ts'
import { buildProgram } from './program.ts'
import { openSession } from './session.ts'

const root = join(import.meta.dirname, '..', '..')
const token = 'the-admin-token'
let world: TestWorld
let server: PortServer
let baseUrl: string
let folder: string
let tokenFile: string

beforeAll(async () => {
  world = await openTestWorld()
  await nameImage(world, 'debian', '12')
  await nameImage(world, 'debian', '13')
  const handlers = controlHandlers(world)
  const control = inProcess(controlPort, handlers)
  for (const [i, name] of ['n01', 'n02', 'spare-machine'].entries()) {
    await control.addHost({
      name,
      interfaces: [{ mac: `52:54:00:00:00:0${i}` }],
      powerMethods: [{ driver: 'manual', options: [] }],
    })
  }
  await control.putSetup({
    xml: '<setup xmlns="urn:hades:setup:1" name="demo"><disk><image>debian:12</image></disk></setup>',
  })
  await control.putScript({ name: 'greet', text: '#!/bin/sh\n' })
  for (const name of ['turin', 'west wing']) await control.setSite({ name })
  await control.startRollout({ nodeset: 'n01', setup: 'demo', acceptNewDisk: true })
  server = await servePorts({
    ports: [served(controlPort, handlers)],
    listen: [{ host: '127.0.0.1', port: 0 }],
    authenticate: authenticateByToken(new Secret(token)),
    log: pino({ level: 'silent' }),
    runOnce: onceRunner(world),
  })
  const [at] = server.addresses
  baseUrl = `http://127.0.0.1:${at && 'port' in at ? at.port : 0}`
  folder = await mkdtemp(join(tmpdir(), 'hades-completion-'))
  tokenFile = join(folder, 'token')
  await writeFile(tokenFile, token)
})
afterAll(async () => {
  await server.close(0)
  await world.close()
  await rm(folder, { recursive: true, force: true })
})

/** What is offered for the last word of a line, asked of the service at `url`. */
async function offered(line: string, url = baseUrl): Promise<string[] | 'files'> {
  const program = buildProgram('1', () => undefined)
  const words = ['--server', url, `--token-file=${tokenFile}`, ...line.split(' ')]
  const found = await complete(program, words, () => openSession(program.opts(), false))
  return found === 'files' ? found : found.map(({ word }) => word)
}

test.each<[line: string, words: string[] | 'files']>([
  ['roll', ['rollout']],
  ['setup va', ['validate']],
  ['host list --st', ['--state']],
  ['host list --state qu', ['queued']],
  ['host list --state=qu', ['--state=queued']],
  ['-o ', ['table', 'json']],
  ['-o json host show n', ['n01', 'n02']],
  ['host add n', []],
  ['host change sp', ['spare-machine']],
  ['deploy n01,!n', ['n01,!n01', 'n01,!n02']],
  ['deploy n[01,', []],
  ['deploy n[01-02],sp', ['n[01-02],spare-machine']],
  ['deploy n01 --setup ', ['demo']],
  ['deploy n01 --setup=', ['--setup=demo']],
  ['host list --with-setup d', ['demo']],
  ['setup show ', ['demo']],
  ['script get ', ['greet']],
  ['image show debian:', ['debian:12', 'debian:13']],
  ['image publish disk.raw --name ', []],
  ['image publish ', 'files'],
  ['setup put ', 'files'],
  ['rollout show ', ['1']],
  ['rollout show 1 x ', []],
  ['call control.getRol', ['control.getRollout']],
  ['nothing like this ', []],
])('after `hades %s` it offers %j', async (line, words) => {
  expect(await offered(line)).toEqual(words)
})

test('a name that is more than a word to a shell is not offered', async () => {
  expect(await offered('site set ')).toEqual(['turin'])
})

describe('names of a service that does not tell them are left out without a word', () => {
  test('because nobody listens', async () => {
    expect(await offered('host show ', 'http://127.0.0.1:1')).toEqual([])
  })

  test('because the token is wrong', async () => {
    const program = buildProgram('1', () => undefined)
    const words = ['--server', baseUrl, '--token-file', '/dev/null', 'host', 'show', '']
    expect(await complete(program, words, () => openSession(program.opts(), false))).toEqual([])
  })

  test('because it does not answer within a second', async () => {
    const silent = createServer((socket) => socket.on('error', () => undefined))
    await new Promise<void>((done) => silent.listen(0, '127.0.0.1', done))
    const address = silent.address()
    const began = performance.now()
    const port = typeof address === 'object' ? address?.port : 0
    expect(await offered('host show ', `http://127.0.0.1:${port}`)).toEqual([])
    expect(performance.now() - began).toBeLessThan(4000)
    silent.close()
  })
})

const prompt = 'your turn> '
/** Each line starts the program twice or more, which takes many seconds on a machine that is full. */
const busyMs = 180_000

/** Each with a prompt to wait for, because what is typed before it can be lost. */
const terminals = [
  {
    shell: 'bash',
    command: 'bash --noprofile --rcfile start -i',
    start: `PS1='${prompt}'\nsource <(hades completion bash)\n`,
  },
  {
    shell: 'zsh',
    command: 'zsh -d -i',
    start: `PROMPT='${prompt}'\nautoload -Uz compinit\ncompinit -D -u\nsource <(hades completion zsh)\n`,
  },
  {
    shell: 'fish',
    command: 'fish --no-config -i -C "source start"',
    start: `function fish_prompt; printf '${prompt}'; end\nhades completion fish | source\n`,
  },
]

describe.each(terminals)('$shell on a terminal', ({ command, start }) => {
  test('completes a host, an image behind its colon, and an option with its value', async () => {
    const home = await mkdtemp(join(folder, 'home-'))
    for (const name of ['start', '.zshrc']) await writeFile(join(home, name), start)
    const env = {
      PATH: `${join(root, 'bin')}:/usr/bin:/bin`,
      HOME: home,
      TERM: 'dumb',
      HADES_SERVER: baseUrl,
      HADES_TOKEN_FILE: tokenFile,
    }
    const terminal = spawn('script', ['-qfec', command, '/dev/null'], { env, cwd: home })
    let screen = ''
    terminal.stdout.on('data', (chunk: Buffer) => {
      screen += chunk.toString()
    })
    const ended = new Promise<void>((done) => terminal.once('exit', () => done()))
    /** Waits until `words` are shown behind `from`, with the prompt behind them. */
    const shown = async (words: string, from: number) => {
      const isThere = () => screen.includes(words, from) && screen.includes(prompt, screen.indexOf(words, from))
      await until(words, isThere, { timeoutMs: busyMs }).catch((cause: unknown) => {
        throw new Error(`the terminal shows ${JSON.stringify(screen)}`, { cause })
      })
    }
    /** Types a line until it does what only the completed one does: on a busy machine a second can be too short. */
    const type = async (line: string, answer: string) => {
      const isAnswered = async () => {
        const from = screen.length
        terminal.stdin.write(`${line}; echo re""ady\n`)
        await shown('ready', from)
        return screen.includes(answer, from)
      }
      await until(answer, isAnswered, { timeoutMs: busyMs })
    }
    try {
      await shown('', 0)
      await type('hades host show spar\t', '52:54:00:00:00:02')
      await type('hades image show debian:1\t3', 'dddddddd')
      await type('hades deploy n01 --setu\tde\t--plan', 'demo:1')
      terminal.stdin.end('exit\n')
      await ended
    } finally {
      // Its shell gets the hangup of a terminal that is gone.
      terminal.kill('SIGKILL')
    }
  }, 600_000)
})
