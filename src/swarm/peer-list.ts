// Whom a stock client is told of: those near it in the topology first, and always some who are far, so that the swarm does
// not fall into islands. Choosing costs the length of the list, however large the swarm.

/** A set that can be read from any place on. */
class Circle<T> {
  readonly #items: T[] = []
  readonly #places = new Map<T, number>()

  get size(): number {
    return this.#items.length
  }

  add(item: T): void {
    if (this.#places.has(item)) return
    this.#places.set(item, this.#items.length)
    this.#items.push(item)
  }

  delete(item: T): void {
    const place = this.#places.get(item)
    const last = this.#items.pop()
    if (place === undefined || last === undefined) return
    this.#places.delete(item)
    if (last === item) return
    this.#items[place] = last
    this.#places.set(last, place)
  }

  *from(place: number): Generator<T> {
    for (let i = 0; i < this.#items.length; i++) {
      const item = this.#items[(place + i) % this.#items.length]
      if (item !== undefined) yield item
    }
  }
}

/** Where a client stands; undefined is a place too: machines of one flat network have no other. */
export type Located = { readonly site: string | undefined; readonly rack: string | undefined }

/** Of a list at least so much is kept for those outside of the rack. */
const farPart = 1 / 8

/** Those of one swarm who may be named. Whoever is in it keeps its place. */
export class PeerGroups<T extends Located> {
  readonly #all = new Circle<T>()
  readonly #groups = new Map<string, Circle<T>>()
  #turn = 0

  add(peer: T): void {
    this.#all.add(peer)
    for (const name of groupsOf(peer)) {
      const group = this.#groups.get(name) ?? new Circle<T>()
      this.#groups.set(name, group)
      group.add(peer)
    }
  }

  delete(peer: T): void {
    this.#all.delete(peer)
    for (const name of groupsOf(peer)) {
      const group = this.#groups.get(name)
      group?.delete(peer)
      if (group?.size === 0) this.#groups.delete(name)
    }
  }

  /** At most `count` peers for one at `place`: of its rack, of its site, others. Each call begins elsewhere. */
  choose(place: Located, count: number, isWanted: (peer: T) => boolean): T[] {
    const chosen = new Set<T>()
    const take = (group: Circle<T> | undefined, most: number): void => {
      // Who is not wanted is passed by, but not for ever: in a swarm of the finished nobody else is left.
      let looks = 4 * count
      for (const peer of group?.from(this.#turn) ?? []) {
        if (chosen.size >= most || looks-- <= 0) return
        if (isWanted(peer)) chosen.add(peer)
      }
    }
    const [rack, site] = groupsOf(place)
    const near = count - Math.floor(count * farPart)
    take(this.#groups.get(rack), near)
    take(this.#groups.get(site), near)
    take(this.#all, count)
    this.#turn = (this.#turn + count) % 2 ** 30
    return [...chosen]
  }
}

function groupsOf({ site, rack }: Located): readonly [rack: string, site: string] {
  return [JSON.stringify([site ?? null, rack ?? null]), JSON.stringify([site ?? null])]
}
