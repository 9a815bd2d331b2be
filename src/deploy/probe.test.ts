import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { tcpAnswers } from './probe.ts'

/** A server that says `greeting` to whoever connects; returns its port. */
async function serverThatSays(greeting: string, onClose: (close: () => void) => void): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.write(greeting)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onClose(() => server.close())
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

const signal = AbortSignal.timeout(60_000)

test('a port that greets as expected answers, in one piece or letter by letter', async ({ onTestFinished }) => {
  const port = await serverThatSays('SSH-2.0-OpenSSH_9.2\r\n', onTestFinished)
  const at = { host: '127.0.0.1', port }
  expect(await tcpAnswers({ ...at, expect: 'SSH-2.0' }, signal)).toBe(true)
  expect(await tcpAnswers({ ...at, expect: undefined }, signal)).toBe(true)
  expect(await tcpAnswers({ ...at, expect: '220 ' }, signal)).toBe(false)
})

test('a port that stays silent does not answer as expected', async ({ onTestFinished }) => {
  const port = await serverThatSays('', onTestFinished)
  expect(await tcpAnswers({ host: '127.0.0.1', port, expect: 'SSH-' }, signal)).toBe(false)
})

test('a machine that is not there does not answer', async ({ onTestFinished }) => {
  let close = (): void => {}
  const port = await serverThatSays('', (closer) => {
    close = closer
  })
  onTestFinished(() => close())
  close()
  expect(await tcpAnswers({ host: '127.0.0.1', port, expect: undefined }, signal)).toBe(false)
})
