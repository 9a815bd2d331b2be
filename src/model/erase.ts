// Erasing the disks of hosts that are given back: a work of its own kind, with no image and no setup.
import type { FinalAction } from './deployment.ts'
import { type Course, defaultDeadlines } from './setup.ts'

/** What may be asked for: a method that does nothing is no order. */
export const erasingMethods = ['discard', 'zero', 'secure'] as const
export type ErasingMethod = (typeof erasingMethods)[number]

/** What the machine does when its disks are erased. */
export const eraseFinishes = ['poweroff', 'reboot', 'stay'] as const satisfies readonly FinalAction[]
export type EraseFinish = (typeof eraseFinishes)[number]

/** From registration to the last disk: several large rotating disks, one after the other, take days to overwrite. */
export const eraseMs = 3 * 24 * 3_600_000

/** How the engine treats it: nobody looks for a system on disks that hold nothing. */
export function courseOfErase(order: { readonly finish: EraseFinish; readonly deadlineMs: number }): Course {
  return {
    finish: { action: order.finish, target: 'local' },
    probe: { kind: 'none' },
    deadlines: { ...defaultDeadlines, deployMs: order.deadlineMs },
  }
}
