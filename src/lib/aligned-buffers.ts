// Memory for reads and writes past the page cache: open(2), O_DIRECT.

// TypeScript declares WebAssembly only beside the types of browsers; this is the part that is used here.
declare const WebAssembly: {
  readonly Memory: new (pages: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer }
}

/** `slots` buffers of `bytesEach` bytes for direct I/O. All of them are zero-filled. */
export function alignedBuffers(slots: number, bytesEach: number): Buffer[] {
  // Memory of WebAssembly begins on a page of the machine, which Node's own buffers do not; O_DIRECT asks for that.
  const pageBytes = 64 * 1024
  const pagesEach = Math.ceil(bytesEach / pageBytes)
  const memory = new WebAssembly.Memory({ initial: slots * pagesEach, maximum: slots * pagesEach })
  return Array.from({ length: slots }, (_, slot) => Buffer.from(memory.buffer, slot * pagesEach * pageBytes, bytesEach))
}
