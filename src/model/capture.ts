// Capturing: one host's disk, or one partition of it, becomes an image. The words of its order, of what is looked for in the
// captured system, and the chain of hashes by which an agent knows that what the service has is what the disk holds.
import { hash } from 'node:crypto'
import type { FinalAction } from './deployment.ts'
import { type Course, defaultDeadlines } from './setup.ts'

/** What a rollout's hosts are told to do. */
export const deploymentKinds = ['deploy', 'capture', 'erase'] as const
export type DeploymentKind = (typeof deploymentKinds)[number]

/** What is known in a captured system as belonging to one machine, or as not to be passed on. */
export const hygieneKinds = [
  'machine-id',
  'ssh-host-key',
  'network-name',
  'host-name',
  'secret',
  'history',
  'cloud-init',
  'log',
] as const
export type HygieneKind = (typeof hygieneKinds)[number]

/** What the machine does when its image is published; it boots its default target then. */
export const captureFinishes = ['reboot', 'poweroff', 'stay'] as const satisfies readonly FinalAction[]
export type CaptureFinish = (typeof captureFinishes)[number]

/** Frames that are zeros come many in one request, at most so many. */
export const zeroFramesMax = 4096

/** From registration to the published image: a slow disk of 4 TB takes half a day. */
export const captureMs = 24 * 3_600_000

/** The chain before the first frame. */
export const emptyChain = '0'.repeat(64)

/** The chain with `count` more frames whose disk bytes have this SHA-256. All in lower-case hex. */
export function lengthenChain(chain: string, rawSha256: string, count = 1): string {
  let longer = chain
  for (let i = 0; i < count; i++) longer = hash('sha256', longer + rawSha256)
  return longer
}

/** How the engine treats a capture: nobody looks for a new system afterwards. */
export function courseOfCapture(capture: { readonly finish: CaptureFinish; readonly deadlineMs: number }): Course {
  return {
    finish: { action: capture.finish, target: 'local' },
    probe: { kind: 'none' },
    deadlines: { ...defaultDeadlines, deployMs: capture.deadlineMs },
  }
}
