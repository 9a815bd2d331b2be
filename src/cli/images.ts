// `hades image`: the library of published images.
import { resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Command, Option } from 'commander'
import { allPages } from '../client/pages.ts'
import type { ImageView } from '../contract/image-types.ts'
import { Failure } from '../model/failure.ts'
import { type ImageKind, type ImageSort, imageKinds, imageSorts } from '../model/image.ts'
import { hygieneLines } from './captures.ts'
import { moment, plain, size, table } from './output.ts'
import { Progress } from './progress.ts'
import { type OpenSession, type Session, tableOr } from './session.ts'

export function addImageCommands(program: Command, open: OpenSession): void {
  const image = program.command('image').description('images: publish, look at, protect, remove, clean up')
  addPublish(image, open)
  image
    .command('list [name]')
    .description('published images, or the versions of one')
    .addOption(new Option('--kind <kind>', 'only of this kind').choices(imageKinds))
    .addOption(new Option('--sort <order>', 'in which order').choices(imageSorts).default('name'))
    .action(async (name: string | undefined, filter: ListOptions, command: Command) => {
      const { control, show } = open(command)
      const input = { ...filter, ...(name === undefined ? {} : { name }) }
      show(await allPages(control.listImages, 'images', input), ({ images }) =>
        tableOr(
          'no images yet: publish one with `hades image publish`',
          ['image', 'kind', 'size', 'data', 'free', 'stored', 'published', 'protected', 'digest'],
          images.map((one) => [
            one.reference,
            one.kind,
            size(one.sizeBytes),
            size(one.dataBytes),
            size(one.freeBytes),
            size(one.storedBytes),
            moment(one.publishedAt),
            one.isProtected ? 'yes' : '',
            one.digest.slice(0, 12),
          ]),
        ),
      )
    })
  image
    .command('show <name:version>')
    .description('one image: what is in it, whose it is, what needs it')
    .action(async (reference: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.getImage({ reference }), describe)
    })
  addChanges(image, open)
  image
    .command('remove <name:version>')
    .description('removes an image that nothing needs')
    .action(async (reference: string, _options, command: Command) => {
      const { control, show } = open(command)
      show(await control.removeImage({ reference }), () => `image ${reference} was removed`)
    })
  image
    .command('gc')
    .description('removes from the library what no image names')
    .option('--dry-run', 'only say what would go')
    .action(async (options: { dryRun?: true }, command: Command) => {
      const { control, show } = open(command)
      show(await control.collectImages(options), ({ images, abandoned, freedBytes }) => {
        const verb = options.dryRun ? 'would go' : 'went'
        const rest = abandoned > 0 ? `, and ${abandoned} imports that had not ended` : ''
        return `${images.length} contents without a name ${verb} (${size(freedBytes)})${rest}`
      })
    })
}

type ListOptions = { readonly kind?: ImageKind; readonly sort: ImageSort }

type PublishOptions = {
  readonly name: string
  readonly kind?: ImageView['kind']
  readonly devices?: true
  readonly owner?: string
  readonly description?: string
  readonly wait: boolean
}

function addPublish(image: Command, open: OpenSession): void {
  image
    .command('publish <path>')
    .description(
      'imports a disk, a partition or a root file system: raw, qcow2, VMDK, VHD, VHDX, VDI, tar, also packed by gzip, xz, zstd or bzip2; a folder of Clonezilla or of files',
    )
    .requiredOption('--name <name:version>', 'what the image is called')
    .addOption(new Option('--kind <kind>', 'what it is; by its content unless given').choices(imageKinds))
    .option('--devices', 'let device nodes be in a tar archive')
    .option('--owner <owner>', 'whose it is')
    .option('--description <text>', 'what there is to say of it')
    .option('--no-wait', 'return at once; `hades call control.getTask` tells how it goes')
    .action(async (file: string, { name, wait, ...how }: PublishOptions, command: Command) => {
      const session = open(command)
      const { task } = await session.control.publishImage({ reference: name, path: resolve(file), ...how })
      if (!wait) {
        session.show(task, () => `task ${task.id} publishes ${name}`)
        return
      }
      await watch(session, task.id)
      const result = await session.control.getImage({ reference: name })
      session.show(result, ({ image: done }) => {
        const saved = `${size(done.sizeBytes)}, ${size(done.freeBytes)} of it free, stored in ${size(done.storedBytes)}`
        return [
          `published ${done.reference} (${done.kind}): ${saved}`,
          `digest ${done.digest}`,
          ...keptLines(done),
        ].join('\n')
      })
    })
}

function addChanges(image: Command, open: OpenSession): void {
  image
    .command('set <name:version>')
    .description('changes what is said of an image; an empty text takes it back')
    .option('--owner <owner>', 'whose it is')
    .option('--description <text>', 'what there is to say of it')
    .action(async (reference: string, change: { owner?: string; description?: string }, command: Command) => {
      const { control, show } = open(command)
      show(await control.changeImage({ reference, ...change }), () => `image ${reference} was changed`)
    })
  for (const [name, isProtected] of [
    ['protect', true],
    ['unprotect', false],
  ] as const) {
    image
      .command(`${name} <name:version>`)
      .description(isProtected ? 'keeps an image from being removed' : 'lets an image be removed again')
      .action(async (reference: string, _options, command: Command) => {
        const { control, show } = open(command)
        const words = isProtected ? 'is protected' : 'is no longer protected'
        show(await control.changeImage({ reference, isProtected }), () => `image ${reference} ${words}`)
      })
  }
}

function describe({ image, users }: { readonly image: ImageView; readonly users: readonly string[] }): string {
  const { archive } = image
  const about = [
    ['image', image.reference],
    ['kind', image.kind],
    ['digest', image.digest],
    ['size', `${size(image.sizeBytes)}, ${size(image.freeBytes)} of it free`],
    ['stored in', size(image.storedBytes)],
    ['published', moment(image.publishedAt)],
    ['owner', image.owner],
    ['description', image.description],
    ['protected', image.isProtected ? 'yes' : 'no'],
    ['needed by', users.join(', ')],
    ...(archive ? [['files', `${archive.files}, unpacked ${size(archive.contentBytes)}`] as const] : []),
  ] as const
  const volumes = image.volumes.map((one) => [
    one.partition === 0 ? '' : one.partition,
    one.fileSystem,
    size(one.sizeBytes),
    size(one.freeBytes),
    one.kept,
  ])
  const lines = [table(['', ''], about).split('\n').slice(1).join('\n')]
  if (volumes.length > 0) lines.push(table(['partition', 'file system', 'size', 'free', 'kept whole because'], volumes))
  if (image.hygiene) lines.push(hygieneLines(image.hygiene).join('\n'))
  return lines.join('\n\n')
}

function keptLines({ volumes }: ImageView): string[] {
  return volumes.flatMap(({ partition, fileSystem, kept }) => {
    const place = partition === 0 ? 'the' : `partition ${partition}, the`
    return kept === undefined ? [] : [plain(`${place} ${fileSystem} is kept whole: ${kept}`)]
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
