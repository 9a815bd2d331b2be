// What holds pieces of image.zst and gives them to whoever passes them on: an agent's store, or the file itself.

export interface PieceReader {
  has(piece: number): boolean
  /** The bytes of a piece that it has; at once when they are in memory. Rejects or throws when it does not have them. */
  read(piece: number): Buffer | Promise<Buffer>
  /** One bit a piece, the highest bit first (BEP 3). A copy. */
  bitfield(): Buffer
}
