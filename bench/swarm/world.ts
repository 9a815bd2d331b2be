// What a method is, and what it is told of the run it is part of.
import type { PublishedImage } from './image.ts'

export type World = {
  readonly image: PublishedImage
  /** For files of the run that are not the image. */
  readonly folder: string
  readonly diskMbit: number | undefined
}

export type Method = {
  /** Beside the file server, which every method has. */
  readonly origin: (world: World) => Promise<readonly (readonly string[])[]>
  /** The command of a node. */
  readonly node: (world: World, options: NodeOptions) => Promise<readonly string[]>
}

export type NodeOptions = {
  readonly name: string
  /** Where it writes image.zst. */
  readonly folder: string
  /** It is going to be told to send corrupt pieces. */
  readonly isCorruptible: boolean
  /** Where peers reach it, when several nodes share a namespace. */
  readonly endpoint?: Endpoint | undefined
}

export type Endpoint = { readonly host: string; readonly port: number }
