// Looking at a machine from outside: does it answer on a TCP port, and with what.
import { connect } from 'node:net'

/** A machine that boots does not answer at all; one that runs answers within a moment. */
const answerMs = 3000

/**
 * True when `host` accepts a connection on `port` and, if `expect` is given, begins to speak with that text. False when
 * it does not within some seconds; never throws for what a machine does.
 */
export async function tcpAnswers(
  target: { readonly host: string; readonly port: number; readonly expect: string | undefined },
  signal: AbortSignal,
): Promise<boolean> {
  return await new Promise<boolean>((resolve) => {
    const socket = connect({ host: target.host, port: target.port, signal })
    let heard = ''
    const settle = (answered: boolean): void => {
      socket.destroy()
      resolve(answered)
    }
    socket.setTimeout(answerMs, () => settle(false))
    socket.on('error', () => settle(false))
    socket.on('close', () => settle(false))
    socket.on('connect', () => {
      if (target.expect === undefined) settle(true)
    })
    socket.on('data', (chunk) => {
      heard += chunk.toString('latin1')
      const expected = target.expect ?? ''
      if (heard.startsWith(expected)) settle(true)
      else if (!expected.startsWith(heard)) settle(false)
    })
  })
}
