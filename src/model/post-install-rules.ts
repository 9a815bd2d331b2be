// What a setup may not ask of the time after the images, found before anything is written: pure. What only the mounted
// system can tell is for the agent.
import { type Layout, placesOf } from './layout.ts'
import type { PostInstall } from './post-install.ts'

/** What is known of an image; what is not known forbids nothing. */
export type ImageFacts = {
  /** All that are in it: `ext4`, `ntfs`, `crypto_LUKS`. */
  readonly fileSystems?: readonly string[] | undefined
}

/** File systems that a Linux root lies on and that the scout mounts. */
const rootFileSystems = ['ext2', 'ext3', 'ext4', 'xfs', 'btrfs']

/** The actions that change files of the new system, and so need its root; in the words of a setup. */
export function actionsInRoot(
  order: Omit<PostInstall, 'scripts'> & { readonly scripts: readonly { where: string }[] },
): string[] {
  const asked: [string, boolean][] = [
    ['hostname', order.hostname !== undefined],
    ['network', order.network.mode !== 'keep'],
    ['ssh', order.newHostKeys || order.authorizedKeys.length > 0],
    ['machine-id', order.newMachineId],
    ['fstab', order.writeFstab],
    ['cloud-init', order.cloudInit !== undefined],
    ['script', order.scripts.some(({ where }) => where === 'chroot')],
  ]
  return asked.filter(([, isAsked]) => isAsked).map(([name]) => name)
}

/** The first thing that cannot be, in words; undefined when nothing speaks against it. */
export function problemOfPostInstall(
  order: Parameters<typeof actionsInRoot>[0],
  layout: Layout,
  factsOf: (image: string) => ImageFacts | undefined,
): string | undefined {
  const places = placesOf(layout)
  const { root } = order
  if (root !== undefined) {
    // `system:3` may be partition 3 of the image on the whole disk `system`.
    const disk = layout.disks.find(({ name, table }) => table === undefined && root.startsWith(`${name}:`))
    const place = places.find(({ place }) => place === root) ?? places.find(({ place }) => place === disk?.name)
    if (place === undefined) return `post-install names the root \`${root}\`, which is no place of the setup`
    if (place.content.kind !== 'keep') {
      const problem = whyNoRoot(place.content, factsOf)
      if (problem !== undefined) return `post-install names the root \`${root}\`, which ${problem}`
    }
  }
  const [first] = actionsInRoot(order)
  if (first === undefined || root !== undefined) return undefined
  const problems = places.map(({ place, content }) => ({ place, problem: whyNoRoot(content, factsOf) }))
  if (problems.some(({ problem }) => problem === undefined)) return undefined
  const why = problems.map(({ place, problem }) => `\`${place}\` ${problem}`).join('; ')
  return `post-install asks for ${first}, and no place of the setup can hold the root of a Linux system: ${why}`
}

type Content = ReturnType<typeof placesOf>[number]['content']

function whyNoRoot(content: Content, factsOf: (image: string) => ImageFacts | undefined): string | undefined {
  switch (content.kind) {
    case 'filesystem':
      if (!rootFileSystems.includes(content.filesystem)) return `is ${content.filesystem}`
      return content.image === undefined ? 'is an empty file system' : undefined
    case 'image': {
      const found = factsOf(content.image)?.fileSystems
      if (found === undefined || found.some((name) => rootFileSystems.includes(name))) return undefined
      return `holds ${content.image}, in which there is ${found.join(', ') || 'no file system'}`
    }
    case 'keep':
      return 'is kept as it is'
    case 'swap':
      return 'is swap'
    case 'member':
      return `is a part of ${content.of}`
    case 'empty':
      return 'is empty'
  }
}
