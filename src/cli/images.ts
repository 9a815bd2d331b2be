// `hades image`: the library of published images.
import { resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from 'commander'
import { Failure } from '../model/failure.ts'
import { moment, size } from './output.ts'
import { Progress } from './progress.ts'
import { type OpenSession, type Session, tableOr } from './session.ts'

export function addImageCommands(program: Command, open: OpenSession): void {
  const image = program.command('image').description('disk images: publish, list, remove')
  image
    .command('publish <file>')
    .description('imports a disk image: raw or qcow2, also packed by gzip, xz or zstd')
    .requiredOption('--name <name:version>', 'what the image is called')
    .option('--no-wait', 'return at once; `hades call control.getTask` tells how it goes')
    .action(async (file: string, options: { name: string; wait: boolean }, command: Command) => {
      const session = open(command)
      const { task } = await session.control.publishImage({ reference: options.name, path: resolve(file) })
      if (!options.wait) {
        session.show(task, () => `task ${task.id} publishes ${options.name}`)
        return
      }
      await watch(session, task.id)
      const result = await session.control.getImage({ reference: options.name })
      session.show(result, ({ image: done }) => {
        const saved = `${size(done.sizeBytes)} of disk, ${size(done.dataBytes)} of it data, stored in ${size(done.storedBytes)}`
        return `published ${done.reference}: ${saved}\ndigest ${done.digest}`
      })
    })
  image
    .command('list')
    .description('published images')
    .action(async (_options, command: Command) => {
      const { control, show } = open(command)
      show(await control.listImages({}), ({ images }) =>
        tableOr(
          'no images yet: publish one with `hades image publish`',
          ['image', 'disk', 'data', 'stored', 'published', 'digest'],
          images.map((one) => [
            one.reference,
            size(one.sizeBytes),
            size(one.dataBytes),
            size(one.storedBytes),
            moment(one.publishedAt),
            one.digest.slice(0, 12),
          ]),
        ),
      )
    })
  image
    .command('remove <name:version>')
    .description('removes an image that nothing needs')
    .action(async (reference: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.removeImage({ reference }), () => `image ${reference} was removed`)
    })
}

/** How often a task is asked about. */
const lookEveryMs = 300

async function watch({ control }: Session, id: number): Promise<void> {
  using progress = new Progress(process.stderr)
  for (;;) {
    const { task } = await control.getTask({ task: id })
    const part = task.totalBytes ? ` of ${size(task.totalBytes)}` : ''
    if (task.state === 'done') return
    if (task.state === 'failed') {
      const [first, ...rest] = task.failure?.message ?? ['it failed']
      const cause = rest.length > 0 ? new Error(rest.join(': ')) : undefined
      throw new Failure(task.failure?.code ?? 'internal', first ?? '', { cause })
    }
    progress.show([`importing ${task.subject}: ${size(task.doneBytes)}${part}`])
    await delay(lookEveryMs)
  }
}
