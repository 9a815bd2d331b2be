// Options that more than one command takes, and how their words are read.
import { type Command, InvalidArgumentError } from 'commander'
import { parseRate, parseSize } from '../lib/size.ts'
import { bytesPerSecondMin } from '../model/transfer-policy.ts'

/** Reads `100M` or `50MB/s`: bytes a second. */
export function rate(text: string): number {
  const bytes = parseRate(text)
  if (bytes !== undefined && bytes >= bytesPerSecondMin) return bytes
  throw new InvalidArgumentError('write bytes a second, at least 1k: 50M, 50MB/s, 100MiB/s.')
}

/** Reads `500GB` or `20GiB`: bytes. */
export function bytes(text: string): number {
  const size = parseSize(text)
  if (size !== undefined && size > 0) return size
  throw new InvalidArgumentError('write bytes: 500GB, 20GiB, a number.')
}

/** Reads a number of things: 1 or more. */
export function count(text: string): number {
  const number = Number(text)
  if (Number.isSafeInteger(number) && number > 0) return number
  throw new InvalidArgumentError('write a whole number, 1 or more.')
}

export type LimitOptions = { readonly egress?: number; readonly ingress?: number }

/** Options that cap what goes out and comes in. */
export function withLimits(command: Command, out: string, into: string): Command {
  return command.option('--egress <rate>', out, rate).option('--ingress <rate>', into, rate)
}

/** The caps as the operations take them. */
export function limitsInput({ egress, ingress }: LimitOptions) {
  return {
    ...(egress === undefined ? {} : { egressBytesPerSecond: egress }),
    ...(ingress === undefined ? {} : { ingressBytesPerSecond: ingress }),
  }
}
