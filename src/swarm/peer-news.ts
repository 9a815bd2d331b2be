// The pieces that we hold and one peer has not been told of: collected for a moment, so that many are told in one write.

/**
 * An agent does not wait for our news: it has asked for pieces before we had them. It only compares how far everybody is,
 * over a second. Each telling wakes two processes, which at low rates costs more than the pieces do.
 */
export const agentDelayMs = 400
const strangerDelayMs = 200

/** So many are told at once, however soon: who is short of memory waits to hear what its successors have. */
const batchMax = 32

export type PeerNewsOptions = {
  /** Not known before the other has introduced itself. */
  readonly isAgent: () => boolean
  /** Called once for each batch. */
  readonly tell: (pieces: readonly number[]) => void
}

export class PeerNews {
  readonly #options: PeerNewsOptions
  readonly #pieces = new Set<number>()
  #timer: NodeJS.Timeout | undefined

  constructor(options: PeerNewsOptions) {
    this.#options = options
  }

  add(pieces: readonly number[]): void {
    for (const piece of pieces) this.#pieces.add(piece)
    if (this.#pieces.size >= batchMax) this.#tell()
    else
      this.#timer ??= setTimeout(() => this.#tell(), this.#options.isAgent() ? agentDelayMs : strangerDelayMs).unref()
  }

  /** Takes a piece out that is not to be told of any more. False when it was not waiting to be. */
  takeBack(piece: number): boolean {
    return this.#pieces.delete(piece)
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#pieces.clear()
  }

  #tell(): void {
    const pieces = [...this.#pieces]
    this.close()
    this.#options.tell(pieces)
  }
}
