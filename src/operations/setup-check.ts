// What a setup document cannot know of itself and the service can: whether its images, its scripts and the profile that
// it boots exist, and whether each image may lie where it is to lie.
import type { ImageView } from '../contract/image-types.ts'
import { type Image, lookUpImage } from '../db/images.ts'
import type { Db } from '../db/open.ts'
import { findScript, type Script } from '../db/scripts.ts'
import { Failure } from '../model/failure.ts'
import { formatImageReference, parseImageReference } from '../model/image.ts'
import { placesOf } from '../model/layout.ts'
import { checkImages, type KnownImage, type KnownImages } from '../model/layout-fit.ts'
import type { PostInstall } from '../model/post-install.ts'
import { problemOfPostInstall } from '../model/post-install-rules.ts'
import type { Setup, SetupLines } from '../model/setup.ts'
import { lackingOfNetwork } from '../model/setup-post-install.ts'
import { readTemplate } from '../model/template.ts'
import { refuseUnknownProfile } from './boot.ts'

/**
 * Checks a document against what is stored now. Throws Failures `unknown-image`, `unknown-script`, `unknown-profile` and
 * `setup-invalid`, each with the line.
 */
export async function checkSetup(
  db: Db,
  { setup, lines }: { readonly setup: Setup; readonly lines: SetupLines },
): Promise<void> {
  const images = new Map<string, KnownImage>()
  for (const { place, content } of placesOf(setup.layout)) {
    const name = 'image' in content ? content.image : undefined
    if (name === undefined) continue
    const image = await lookUpImage(db, parseImageReference(name))
    if (image === undefined) throw at(lines.get(place), 'unknown-image', `there is no image ${name}`)
    images.set(name, knownImage(image))
  }
  const problem = checkImages(setup.layout, images)
  if (problem !== undefined) throw at(lines.get(problem.place), 'setup-invalid', problem.sentence)
  await atLine(lines.get('finish'), () => refuseUnknownProfile(db, setup.finish.target, 'setup'))
  const { postInstall } = setup
  if (postInstall === undefined) return
  const noRoot = problemOfPostInstall(postInstall, setup.layout, (name) => images.get(name))
  if (noRoot !== undefined) throw at(lines.get('element post-install'), 'setup-invalid', noRoot)
  for (const { name, library, isTemplate } of postInstall.scripts) {
    if (library === undefined) continue
    await atLine(lines.get(`script ${name}`), async () => {
      const script = await findScript(db, library)
      if (isTemplate) refuseTemplate(script, postInstall)
    })
  }
}

/** Does it; its Failure gets the line. */
async function atLine(line: number | undefined, check: () => Promise<void>): Promise<void> {
  try {
    await check()
  } catch (error) {
    if (error instanceof Failure) throw at(line, error.code, error.message)
    throw error
  }
}

function at(line: number | undefined, code: Failure['code'], sentence: string): Failure {
  return new Failure(code, `line ${line ?? 1}: ${sentence}`, { at: `line ${line ?? 1}` })
}

/** Throws Failure `setup-invalid` when a script of the library is no template that can be filled in. */
export function refuseTemplate({ name, version, text }: Script, { network }: PostInstall): void {
  const template = readTemplate(text)
  const problem =
    'problem' in template
      ? `line ${template.line + 1} of it: ${template.problem}`
      : lackingOfNetwork(template.words, network)
  if (problem !== undefined) throw new Failure('setup-invalid', `script ${name}:${version} of the library: ${problem}`)
}

/** What the rows say of images; a row that does not tell the kind is passed over where the kind matters. */
export function knownImages(images: readonly Image[]): KnownImages {
  return new Map(images.map((image) => [formatImageReference(image), knownImage(image)]))
}

function knownImage(image: Image & { readonly kind?: string | null }): KnownImage {
  const fileSystems = fileSystemsIn(image)
  return {
    sizeBytes: image.size_bytes,
    ...(image.kind == null ? {} : { kind: image.kind }),
    ...(fileSystems === undefined ? {} : { fileSystems }),
  }
}

/** Those that were seen when it was imported; undefined when something in it is not known. */
function fileSystemsIn({ contents }: Image): readonly string[] | undefined {
  if (contents === null) return undefined
  const { volumes } = JSON.parse(contents) as Pick<ImageView, 'volumes'>
  const names = volumes.map(({ fileSystem }) => fileSystem)
  return names.length === 0 || names.includes('unknown') ? undefined : names
}
