// The file systems and swap areas of a setup being made, one after the other beside the transfer of the images; those that
// get files unpacked into them first.
import { isMade, makeFileSystem } from './make-file-systems.ts'
import type { Place } from './place.ts'
import { readSignature } from './signature.ts'

export class FileSystems {
  readonly #places: readonly Place[]
  readonly #uuids = new Map<string, string>()
  readonly #made: ReadonlyMap<string, Promise<void>>

  /** Begins at once. What fails is thrown to whoever waits for it. */
  constructor(places: readonly Place[], signal: AbortSignal) {
    this.#places = places
    const made = new Map<string, Promise<void>>()
    let last: Promise<void> = Promise.resolve()
    const isUrgent = ({ content }: Place) => content.kind === 'filesystem' && content.image !== undefined
    for (const place of [...places.filter(isUrgent), ...places.filter((place) => !isUrgent(place))]) {
      // One at a time: they would only make the disk's head run between them.
      last = last.then(() => this.#make(place, signal))
      made.set(place.name, last)
      // Whoever waits hears of it, be it never.
      last.catch(() => undefined)
    }
    this.#made = made
  }

  /** Resolves when the place holds its file system. Throws Failure `disk-error`. */
  async one(name: string): Promise<void> {
    await this.#made.get(name)
  }

  /** Resolves when all are made. Throws the first Failure. */
  async all(): Promise<void> {
    await Promise.all(this.#made.values())
  }

  /** The places with the UUIDs that are known by now. */
  places(): readonly Place[] {
    return this.#places.map((place) => {
      const uuid = this.#uuids.get(place.name)
      return uuid === undefined ? place : { ...place, uuid }
    })
  }

  async #make(place: Place, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const { content } = place
    if (isMade(content)) this.#uuids.set(place.name, await makeFileSystem(place, content, signal))
    if (content.kind !== 'keep') return
    const { uuid } = await readSignature(place.device.path, signal)
    if (uuid !== undefined) this.#uuids.set(place.name, uuid)
  }
}
