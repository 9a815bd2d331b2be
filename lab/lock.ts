// One process at a time on one thing, by its name.
import { createHash } from 'node:crypto'
import { createServer } from 'node:net'
import { Failure } from '../src/model/failure.ts'

/**
 * Runs `work` while no other process of this computer holds `name`; throws Failure `in-use` when one does. The lock is a
 * name in the kernel's abstract socket space (unix(7)): it ends with its process, however that ends, and leaves no file.
 */
export async function whileLocked<T>(name: string, work: () => Promise<T>): Promise<T> {
  const server = createServer()
  const hash = createHash('sha256').update(name).digest('hex').slice(0, 32)
  await new Promise<void>((done, fail) => {
    server.once('error', (cause) =>
      fail(new Failure('in-use', `another process is making or removing ${name}: wait for it`, { cause })),
    )
    server.listen(`\0hades-lab-${hash}`, done)
  })
  try {
    return await work()
  } finally {
    await new Promise((done) => server.close(done))
  }
}
