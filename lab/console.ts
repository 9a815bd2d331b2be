// Joins this terminal to the serial console of a machine: keys go in, what it says comes out, Ctrl-] leaves.
import { connect } from 'node:net'
import { Failure } from '../src/model/failure.ts'

const leave = 0x1d // Ctrl-], as telnet(1) and virsh(1) have it.

/** Resolves when the operator leaves or the machine is switched off. Throws Failure `wrong-state` when it is off. */
export async function attachConsole(socketPath: string, machine: string): Promise<void> {
  const socket = connect(socketPath)
  await new Promise<void>((done, fail) => {
    socket.once('connect', done)
    socket.once('error', (cause) => fail(new Failure('wrong-state', `${machine} is off: it has no console`, { cause })))
  })
  const { stdin, stdout } = process
  const isTerminal = stdin.isTTY
  if (isTerminal) stdin.setRawMode(true)
  stdin.on('data', (keys: Buffer) => {
    if (isTerminal && keys.includes(leave)) socket.end()
    else socket.write(keys)
  })
  socket.pipe(stdout, { end: false })
  await new Promise<void>((done) => socket.once('close', () => done()).on('error', () => done()))
  if (isTerminal) stdin.setRawMode(false)
  stdin.destroy()
}
