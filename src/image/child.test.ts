import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { outputOf } from './child.ts'
import { stream, testFolder } from './testing.ts'

const limits = { memoryBytes: 256 * 1024 * 1024, cpuSeconds: 10 }

async function collect(output: AsyncIterable<Buffer>): Promise<string> {
  const parts: Buffer[] = []
  for await (const part of output) parts.push(part)
  return Buffer.concat(parts).toString()
}

test('input passes through a child and comes out', async () => {
  const bytes = Buffer.alloc(1_000_000, 'abc')
  expect(await collect(outputOf(['cat'], { limits, input: stream(bytes) }))).toBe(bytes.toString())
})

test('a child that fails is told with its last words and its status', async () => {
  const output = outputOf(['sh', '-c', 'echo part; echo first >&2; echo last words >&2; exit 3'], { limits })
  await expect(collect(output)).rejects.toThrow('last words (status 3)')
  expect(await collect(outputOf(['sh', '-c', 'echo part; exit 3'], { limits, fine: [0, 3] }))).toBe('part\n')
})

test('a program that is not installed is named', async () => {
  await expect(collect(outputOf(['no-such-program'], { limits }))).rejects.toMatchObject({
    code: 'internal',
    message: 'no-such-program cannot be started on the server',
  })
})

test('a child gets no memory beyond its bound, writes no file, and sees nothing of our environment', async () => {
  const path = join(testFolder(), 'written')
  process.env.HADES_TEST_TOKEN = 'secret'
  expect(await collect(outputOf(['env'], { limits }))).not.toContain('secret')
  await expect(collect(outputOf(['sort', '-S', '1G', '/dev/zero'], { limits }))).rejects.toThrow(/memory|status|signal/)
  await expect(collect(outputOf(['sh', '-c', `echo text > ${path}`], { limits }))).rejects.toThrow('signal SIGXFSZ')
  expect(readFileSync(path, 'utf8')).toBe('')
})

test('a child that gives nothing is killed after its bound', async () => {
  await expect(collect(outputOf(['sleep', '60'], { limits, stallMs: 50 }))).rejects.toThrow(
    'sleep gave nothing for 50 ms',
  )
})

test('a child ends with whoever stops reading it', async () => {
  const output = outputOf(['sh', '-c', 'echo $$; exec sleep 60'], { limits })
  const { value } = await output.next()
  await output.return()
  expect(() => process.kill(Number(value?.toString()), 0)).toThrow('ESRCH')
})
