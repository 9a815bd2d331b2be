// A failure as it travels: the body of a REST answer, the detail of a SOAP fault, and back into a Failure at the caller.
import { type Static, Type } from 'typebox'
import { causeChain, Failure } from '../model/failure.ts'
import { failureMeanings } from './failures.ts'
import { failureCode } from './types.ts'

export const failureBody = Type.Object(
  {
    code: failureCode,
    message: Type.Array(Type.String(), { description: 'What happened, the outermost sentence first' }),
    at: Type.Optional(Type.String({ description: 'The input field or place at fault' })),
    remedy: Type.String({ description: 'What the operator does about it' }),
    retry: Type.Boolean({ description: 'The same call can succeed later without anyone changing anything' }),
  },
  { title: 'Failure', description: 'Why a call failed' },
)
export type FailureBody = Static<typeof failureBody>

/** A sentence longer than this is cut, so that what a peer answered cannot make a message of any size. */
const sentenceLengthMax = 4000

export function toFailureBody(failure: Failure): FailureBody {
  const { remedy, retry } = failureMeanings[failure.code]
  return {
    code: failure.code,
    message: causeChain(failure).map((sentence) => sentence.slice(0, sentenceLengthMax)),
    ...(failure.at === undefined ? {} : { at: failure.at }),
    remedy,
    retry,
  }
}

/** The failure again, each further sentence a cause of the one before. */
export function fromFailureBody({ code, message, at }: FailureBody): Failure {
  const [first = code, ...causes] = message
  const cause = causes.reduceRight<Error | undefined>(
    (inner, sentence) => new Error(sentence, inner === undefined ? {} : { cause: inner }),
    undefined,
  )
  return new Failure(code, first, {
    ...(cause === undefined ? {} : { cause }),
    ...(at === undefined ? {} : { at }),
  })
}
