// What a run publishes: an image of bytes that nothing can compress, and its forms for our agents and for stock clients.
import { createCipheriv, createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Forms, FormsHasher, torrentInfoOf, writeForms } from '../../src/image/forms.ts'
import { imagePaths } from '../../src/image/library.ts'
import { choosePieceBytes } from '../../src/model/swarm.ts'
import { encodeMetalink } from '../../src/protocol/metalink.ts'
import { encodeTorrent } from '../../src/protocol/torrent.ts'
import { mebibyte } from './limit.ts'

export type PublishedImage = {
  readonly bytes: number
  /** Of the whole image, and its name in the library. */
  readonly sha256: string
  readonly file: string
  /** The library that the origin serves, and the image's folder in it. */
  readonly library: string
  readonly folder: string
  readonly url: string
  /** Files: every method has its torrent before the gate opens. */
  readonly torrent: string
  readonly ours: Forms
  /** With the stock clients' larger pieces. */
  readonly stock: Forms
  readonly stockTorrent: string
  readonly stockMetalink: string
}

export type ImageOptions = {
  readonly mib: number
  readonly seed: number
  readonly stockPieceBytes: number
  /** As `http://10.77.0.1:7780`. */
  readonly originBase: string
  /** The tracker of the stock clients. */
  readonly stockAnnounce: string
}

/** Makes a library with the image, and beside it what stock clients take. */
export async function publishImage(library: string, options: ImageOptions): Promise<PublishedImage> {
  await mkdir(library, { recursive: true })
  const totalBytes = options.mib * mebibyte
  const ours = new FormsHasher({ totalBytes, pieceBytes: choosePieceBytes(totalBytes) })
  const stock = new FormsHasher({ totalBytes, pieceBytes: options.stockPieceBytes })
  const draft = join(library, 'draft')
  const image = await open(draft, 'wx')
  try {
    for (const part of noise(options)) await Promise.all([image.write(part), ours.update(part), stock.update(part)])
  } finally {
    await image.close()
  }
  return await publishForms(library, draft, options, { ours: ours.finish(), stock: stock.finish() })
}

/** The same bytes for the same seed. */
function* noise({ mib, seed }: ImageOptions): Generator<Buffer> {
  const key = createHash('sha256').update(`image ${seed}`).digest().subarray(0, 16)
  const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16))
  const zeros = Buffer.alloc(mebibyte)
  for (let done = 0; done < mib; done += 1) yield cipher.update(zeros)
}

async function publishForms(
  library: string,
  draft: string,
  { originBase, stockAnnounce }: ImageOptions,
  { ours, stock }: { readonly ours: Forms; readonly stock: Forms },
): Promise<PublishedImage> {
  const { sha256, totalBytes } = ours
  const { folder, image, forms } = imagePaths({ folder: library }, sha256)
  await mkdir(folder)
  await rename(draft, image)
  await writeForms(forms, ours)
  // Without a web seed in it: the Metalink of the paper's way has the URL, and the swarms with a seeder have none.
  const stockTorrent = join(library, 'stock.torrent')
  await writeFile(stockTorrent, encodeTorrent({ info: torrentInfoOf(stock), announce: [stockAnnounce], webSeeds: [] }))
  const stockMetalink = join(library, 'stock.meta4')
  const url = `${originBase}/images/${sha256}/image.zst`
  const links = { torrentUrl: `${originBase}/stock.torrent`, mirrors: [{ url }] }
  await writeFile(stockMetalink, encodeMetalink({ ...torrentInfoOf(stock), sha256, ...links }))
  const torrent = join(library, 'our.torrent')
  await writeFile(
    torrent,
    encodeTorrent({ info: torrentInfoOf(ours), announce: [`${originBase}/announce`], webSeeds: [url] }),
  )
  return {
    bytes: totalBytes,
    sha256,
    file: image,
    library,
    folder,
    url,
    torrent,
    ours,
    stock,
    stockTorrent,
    stockMetalink,
  }
}

/** SHA-256 of a file, lower-case hex. */
export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const part of createReadStream(path, { highWaterMark: mebibyte })) hash.update(part as Buffer)
  return hash.digest('hex')
}
