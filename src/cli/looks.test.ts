import { expect, test } from 'vitest'
import { Failure } from '../model/failure.ts'
import { looks } from './looks.ts'

test('a service that is away for a while is waited for', async () => {
  const answers = [1, new Failure('service-unreachable', 'away'), new Failure('service-unreachable', 'away'), 2]
  let absences = 0
  const ask = async (): Promise<number> => {
    const answer = answers.shift()
    if (answer instanceof Failure) throw answer
    return answer ?? 0
  }
  const seen: number[] = []
  const onAbsence = (): void => {
    absences += 1
  }
  for await (const answer of looks(ask, { everyMs: 0, onAbsence })) {
    seen.push(answer)
    if (answer === 2) break
  }
  expect(seen).toEqual([1, 2])
  expect(absences).toBe(2)
})

test('any other failure ends the looking', async () => {
  const ask = async (): Promise<number> => {
    throw new Failure('unknown-rollout', 'gone')
  }
  await expect(looks(ask, { everyMs: 0, onAbsence: () => {} }).next()).rejects.toMatchObject({
    code: 'unknown-rollout',
  })
})
