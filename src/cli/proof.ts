// `hades proof`: the signed record of a deployment, and checking one without the service.
import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { failureMeanings } from '../contract/failures.ts'
import { Failure } from '../model/failure.ts'
import { exportProof, proofProblem } from '../model/proof.ts'
import { plain, size, table } from './output.ts'
import type { OpenSession } from './session.ts'

/** A proof of the largest layout is far smaller. */
const fileBytesMax = 64 * 1024 * 1024

export function addProofCommand(program: Command, open: OpenSession): void {
  const proof = program
    .command('proof [deployment]')
    .description('the signed record of a deployment: what was written where, read back, and seen afterwards')
    .option('--json', 'as JSON with its signature, to be kept or handed on')
    .action(async (deployment: string | undefined, options: { json?: boolean }, command: Command) => {
      if (deployment === undefined)
        throw new Failure('bad-input', 'say which deployment: hades proof 17', { at: 'deployment' })
      const session = open(command)
      const signed = await session.control.getProof({ deployment: Number(deployment) })
      const exported = exportProof(signed)
      if (options.json || session.format === 'json') session.print(JSON.stringify(exported, undefined, 2))
      else session.print(text(exported.proof, signed).join('\n'))
    })
  proof
    .command('key')
    .description('the public key by which proofs of this service are checked')
    .action(async (_options, command: Command) => {
      const { control, show } = open(command)
      show(await control.getSigningKey({}), ({ publicKey }) => publicKey)
    })
  proof
    .command('verify <file>')
    .description('checks a proof without the service; exit code 0 when it is what the holder of the key signed')
    .requiredOption('--key <key>', 'the public key, base64, or a file that holds it; get it from somebody you trust')
    .action(async (file: string, options: { key: string }, command: Command) => {
      const { print } = open(command)
      const problem = proofProblem(await readProof(file), await readKey(options.key))
      if (problem === undefined) print(`${plain(file)}: good`)
      else {
        process.stderr.write(`hades: ${plain(file)} is not proven: ${problem}\n`)
        process.exitCode = failureMeanings['image-corrupt'].exit
      }
    })
}

async function readProof(file: string): Promise<unknown> {
  let bytes: Buffer
  try {
    bytes = await readFile(file)
  } catch (cause) {
    throw new Failure('bad-input', `the proof ${file} cannot be read`, { cause, at: 'file' })
  }
  if (bytes.length > fileBytesMax) throw new Failure('bad-input', `${file} is too large for a proof`, { at: 'file' })
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch (cause) {
    throw new Failure('bad-input', `${file} is no JSON`, { cause, at: 'file' })
  }
}

/** 32 bytes in base64. */
const keyForm = /^[A-Za-z0-9+/]{43}=$/

async function readKey(given: string): Promise<string> {
  if (keyForm.test(given)) return given
  const text = await readFile(given, 'utf8').catch(() => '')
  if (keyForm.test(text.trim())) return text.trim()
  throw new Failure('bad-input', `${given} is no public key, and no file with one: hades proof key prints it`, {
    at: '--key',
  })
}

type Fields = Readonly<Record<string, unknown>>

const fieldsOf = (value: unknown): Fields => (typeof value === 'object' && value !== null ? (value as Fields) : {})

function text(proof: Fields, signed: { signedAt: string; publicKey: string }): string[] {
  const { disk, bytes, probe, times, versions, setup } = Object.fromEntries(
    ['disk', 'bytes', 'probe', 'times', 'versions', 'setup'].map((name) => [name, fieldsOf(proof[name])]),
  ) as Readonly<Record<string, Fields>>
  const say = (value: unknown): string | undefined => (typeof value === 'string' ? value : JSON.stringify(value))
  const counted = (value: unknown): string | undefined => (typeof value === 'number' ? size(value) : undefined)
  const images = Array.isArray(proof.images) ? proof.images.map(fieldsOf) : []
  const rows: [string, string | undefined][] = [
    [
      'deployment',
      `${say(proof.deployment)} of ${say(proof.host)}, attempt ${say(proof.attempt)}: ${say(proof.outcome)}`,
    ],
    ['setup', `${say(setup?.name)}:${say(setup?.version)}`],
    ...images.map((image): [string, string] => ['image', `${say(image.reference)} sha256:${say(image.digest)}`]),
    ['disk', [disk?.path, disk?.serial, disk?.wwn].flatMap((part) => say(part) ?? []).join(' ')],
    ['written', counted(bytes?.written)],
    ['read back', counted(bytes?.readBack)],
    ['boot entry', say(proof.bootEntry)],
    ['probe', `${say(probe?.kind)}: ${say(probe?.result)}${probe?.said === undefined ? '' : ` (${say(probe.said)})`}`],
    ['began', say(times?.started)],
    ['ended', say(times?.ended)],
    [
      'versions',
      Object.entries(versions ?? {})
        .map(([name, value]) => `${name} ${say(value)}`)
        .join(', '),
    ],
    ['signed', `${signed.signedAt} by ${signed.publicKey}`],
  ]
  return [table(['what', 'proof'], rows)]
}
