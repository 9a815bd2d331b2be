// How a rollout and each of its hosts went, in words.
import { failureMeanings } from '../contract/failures.ts'
import type { DeploymentView, RolloutView } from '../contract/types.ts'
import { foldNodeset } from '../lib/nodeset.ts'
import { isOpen } from '../model/deployment.ts'
import { duration, moment, plain, size } from './output.ts'
import { copies, fromPeers } from './swarm.ts'

/** Of what was tried, so much is shown; the API has all. */
const triesShown = 8

/** How many hosts stand where. */
export function standing({ counts, deployments }: RolloutView): string {
  const { waiting, done, failed, cancelled } = counts
  const underWay = Map.groupBy(
    deployments.filter(({ state }) => isOpen(state) && state !== 'waiting'),
    ({ state }) => state,
  )
  const words: [string, number][] = [
    ['waiting', waiting],
    ...[...underWay].map(([state, rows]): [string, number] => [state, rows.length]),
    ['done', done],
    ['failed', failed],
    ['cancelled', cancelled],
  ]
  return words.flatMap(([word, count]) => (count === 0 ? [] : [`${count} ${word}`])).join(', ')
}

/** How much came from peers, of a host whose agent counts it. */
export function shareOf({ transfer }: DeploymentView): string[] {
  return transfer ? fromPeers(transfer.fromPeersBytes, transfer.fromOriginBytes) : []
}

export function total(one: DeploymentView): number {
  return one.states.reduce((sum, { seconds }) => sum + seconds, 0)
}

/** How each host of a rollout went: states and steps with their seconds, bytes, failure, log. */
export function report(rollout: RolloutView): string {
  const { copiesOutOfOrigin, egressBytesPerSecond, ingressBytesPerSecond } = rollout
  const transfer = [
    `by ${rollout.engine}`,
    ...(egressBytesPerSecond === undefined ? [] : [`out at most ${size(egressBytesPerSecond)}/s a host`]),
    ...(ingressBytesPerSecond === undefined ? [] : [`in at most ${size(ingressBytesPerSecond)}/s a host`]),
    ...(copiesOutOfOrigin === undefined ? [] : [`${copies(copiesOutOfOrigin)} out of the origin`]),
  ]
  const lines = [
    `rollout ${rollout.id} of ${rollout.setup}: ${rollout.state}, ${standing(rollout)}`,
    ...(rollout.reason === undefined ? [] : [`because   ${plain(rollout.reason)}`]),
    ...(rollout.waitsFor === undefined ? [] : [`waits for ${plain(rollout.waitsFor)}`]),
    ...policyInWords(rollout),
    ...rollout.excluded.map(({ host, text }) => `left out  ${host}: ${plain(text)}`),
    transfer.join(' · '),
  ]
  const waiting = rollout.deployments.filter(({ state }) => state === 'waiting')
  if (waiting.length > 0) lines.push('', `waiting to begin: ${foldNodeset(waiting.map(({ host }) => host))}`)
  for (const one of rollout.deployments) {
    if (one.state === 'waiting') continue
    lines.push(
      '',
      `${one.host}  ${one.state}${one.attempt > 1 ? ` in attempt ${one.attempt}` : ''}  ${duration(total(one))}`,
    )
    const spent = one.states.filter(({ step }) => step !== one.state || isOpen(one.state))
    lines.push(`  states   ${spent.map(({ step, seconds }) => `${step} ${duration(seconds)}`).join(' · ')}`)
    if (one.proof) {
      const { proof } = one
      const disk = [proof.diskPath, size(proof.diskSizeBytes), proof.diskSerial && `serial ${proof.diskSerial}`]
      lines.push(
        `  steps    ${proof.steps.map(({ step, seconds }) => `${step} ${duration(seconds)}`).join(' · ')}`,
        `  bytes    ${size(proof.bytesFetched)} fetched · ${size(proof.bytesWritten)} written · ${size(proof.bytesZeroed)} zeroed · ${proof.bytesKept ? `${size(proof.bytesKept)} kept · ` : ''}${size(proof.bytesReadBack)} read back and equal`,
        `  disk     ${plain(disk.filter(Boolean).join(', '))}`,
      )
    }
    if (one.transfer) {
      const { transfer } = one
      const from = [
        `${size(transfer.fromOriginBytes)} from the origin`,
        `${size(transfer.fromPeersBytes)} from peers`,
        `${size(transfer.toPeersBytes)} to peers`,
        ...shareOf(one),
      ]
      lines.push(`  image    ${from.join(' · ')}`)
    }
    for (const { attempt, step, how, at, outcome } of (one.tries ?? []).slice(-triesShown)) {
      lines.push(
        `  tried    ${moment(at)} attempt ${attempt}: ${step}, ${plain(how)}: ${plain(outcome ?? 'no outcome')}`,
      )
    }
    if (one.failure) {
      lines.push(
        `  failed   ${one.failedStep === undefined ? '' : `in ${one.failedStep}: `}${plain(one.failure.message.join(': '))}`,
        `  do       ${failureMeanings[one.failure.code].remedy} [${one.failure.code}]`,
      )
    } else if (isOpen(one.state)) lines.push(`  waits    for ${plain(one.waitingFor ?? '')}`)
    if (one.log)
      lines.push(
        '  log',
        ...one.log
          .trimEnd()
          .split('\n')
          .slice(-15)
          .map((line) => `    ${plain(line)}`),
      )
  }
  return lines.join('\n')
}

/** The policy in a line; none of a rollout whose hosts all began at once. */
function policyInWords({ policy, waves }: RolloutView): string[] {
  if (!policy) return []
  const { canary, wave, concurrency, stopAtFailed, atFailures, quorum, spares, startAt, order } = policy
  const words = [
    canary === undefined ? '' : `canary of ${canary}`,
    wave === undefined ? '' : `waves of ${wave} (${waves})`,
    concurrency === undefined ? '' : `${concurrency} at a time`,
    stopAtFailed === undefined ? '' : `${atFailures} at ${stopAtFailed} failed`,
    quorum === undefined ? '' : `${quorum} are enough, the others ${spares === 'hold' ? 'stand in' : 'begin too'}`,
    startAt === undefined ? '' : `not before ${startAt}`,
    order === 'spread' ? 'spread over sites and racks' : '',
  ].filter(Boolean)
  return words.length === 0 ? [] : [`policy    ${words.join(' · ')}`]
}
