// The pieces that we hold and one peer has not been told of: collected for a moment, so that many are told in one write.

/** News of pieces are collected for so long before they are told. */
const agentDelayMs = 50
const strangerDelayMs = 200

/** Who holds a piece already only wants to know how far we are; its link has better uses. */
const oldNewsDelayMs = 400

export type PeerNewsOptions = {
  /** Not known before the other has introduced itself. */
  readonly isAgent: () => boolean
  readonly isHeldThere: (piece: number) => boolean
  /** Called once for each batch. */
  readonly tell: (pieces: readonly number[]) => void
}

export class PeerNews {
  readonly #options: PeerNewsOptions
  readonly #pieces = new Set<number>()
  #timer: NodeJS.Timeout | undefined
  /** All that waits to be told is of pieces that the other holds itself. */
  #isOld = false

  constructor(options: PeerNewsOptions) {
    this.#options = options
  }

  /** One piece at least. */
  add(pieces: readonly number[]): void {
    for (const piece of pieces) this.#pieces.add(piece)
    const isNew = pieces.some((piece) => !this.#options.isHeldThere(piece))
    if (isNew && this.#isOld) this.#stop()
    this.#isOld = !isNew && (this.#timer === undefined || this.#isOld)
    const delayMs = this.#options.isAgent() ? agentDelayMs : strangerDelayMs
    this.#timer ??= setTimeout(() => this.#tell(), isNew ? delayMs : oldNewsDelayMs).unref()
  }

  /** Takes a piece out that is not to be told of any more. False when it was not waiting to be. */
  takeBack(piece: number): boolean {
    return this.#pieces.delete(piece)
  }

  close(): void {
    this.#stop()
    this.#pieces.clear()
  }

  #tell(): void {
    this.#timer = undefined
    const pieces = [...this.#pieces]
    this.#pieces.clear()
    this.#options.tell(pieces)
  }

  #stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}
