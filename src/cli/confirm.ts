// Asking for what must be typed before many machines are overwritten. Only a terminal is asked: a script says it beforehand.
import { createInterface } from 'node:readline/promises'
import { Failure } from '../model/failure.ts'
import { planInWords } from './plan.ts'
import type { RolloutOrder } from './rollout-options.ts'
import type { Session } from './session.ts'

/**
 * Starts something that many hosts must be confirmed for: when nothing was confirmed and a person is there, shows the plan
 * of `order`, asks, and starts once more with what was typed.
 */
export async function confirmed<T>(
  { control }: Pick<Session, 'control'>,
  order: RolloutOrder,
  start: (confirm: { confirm?: string }) => Promise<T>,
): Promise<T> {
  try {
    return await start(order.confirm === undefined ? {} : { confirm: order.confirm })
  } catch (error) {
    const mayAsk = order.confirm === undefined && process.stdin.isTTY && process.stderr.isTTY
    if (!(error instanceof Failure) || error.code !== 'confirm-needed' || !mayAsk) throw error
    const { plan } = await control.planRollout(order)
    process.stderr.write(`${planInWords(plan)}\n\n`)
    const question = `Type how many hosts are meant (the plan has ${plan.hosts.length}), or nothing to leave it: `
    const prompt = createInterface({ input: process.stdin, output: process.stderr })
    const typed = await prompt.question(question).finally(() => prompt.close())
    if (typed.trim() === '') throw error
    return await start({ confirm: typed.trim() })
  }
}
