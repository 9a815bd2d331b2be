// What the best possible method would take, and what a run is measured by. Pure arithmetic: every node's link must carry
// the image once, and where a disk is slower its disk must.

/**
 * Of each full Ethernet frame of 1514 bytes, as tc counts them, TCP carries 1448: 14 are Ethernet's, 20 IP's, 32 TCP's with
 * its timestamps.
 */
export const frameBytes = 1514
export const frameHeaderBytes = 66
const payloadShare = (frameBytes - frameHeaderBytes) / frameBytes

export const mebibyte = 1024 * 1024

/** Bytes of a file that a link of so many Mbit/s carries in a second, in one direction. */
export function payloadBytesPerSecond(mbit: number): number {
  return ((mbit * 1e6) / 8) * payloadShare
}

export type Limits = { readonly imageBytes: number; readonly linkMbit: number; readonly diskMbit?: number | undefined }

/** Seconds that no node can beat: its own link, and where one is set its disk, carry the image once. */
export function limitSeconds({ imageBytes, linkMbit, diskMbit }: Limits): number {
  const link = imageBytes / payloadBytesPerSecond(linkMbit)
  return diskMbit === undefined ? link : Math.max(link, (imageBytes * 8) / (diskMbit * 1e6))
}

/** The middle value, of two middle ones the later; null stands for "never". Null of an empty list. */
export function median(values: readonly (number | null)[]): number | null {
  const sorted = values.map((value) => value ?? Number.POSITIVE_INFINITY).sort((a, b) => a - b)
  return finite(sorted[Math.floor(sorted.length / 2)])
}

/** The largest value; null when one of them is, or there is none. */
export function last(values: readonly (number | null)[]): number | null {
  return values.length === 0 ? null : finite(Math.max(...values.map((value) => value ?? Number.POSITIVE_INFINITY)))
}

function finite(value: number | undefined): number | null {
  return value === undefined || !Number.isFinite(value) ? null : value
}
