import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, test } from 'vitest'
import { until } from '../src/lib/until.ts'
import { whileLocked } from './lock.ts'

test('a second holder of the same name is refused, one of another name is not', async () => {
  const name = `lock test ${process.pid}`
  const answer = await whileLocked(name, async () => {
    await expect(whileLocked(name, async () => 'in')).rejects.toMatchObject({ code: 'in-use' })
    return whileLocked(`${name}, another`, async () => 'in')
  })
  expect(answer).toBe('in')
  expect(await whileLocked(name, async () => 'again')).toBe('again')
})

test('a holder that is killed leaves the name free', async () => {
  const name = `lock test killed ${process.pid}`
  const script = `import { whileLocked } from ${JSON.stringify(import.meta.resolve('./lock.ts'))}
    await whileLocked(${JSON.stringify(name)}, () => new Promise(() => { console.log('held'); setInterval(() => {}, 1e6) }))`
  const holder = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(holder.stdout, 'data')
  await expect(whileLocked(name, async () => 'in')).rejects.toMatchObject({ code: 'in-use' })
  holder.kill('SIGKILL')
  await once(holder, 'close')
  expect(await until('the lock', () => whileLocked(name, async () => 'in'), { timeoutMs: 5_000 })).toBe('in')
})
