import { randomUUID } from 'node:crypto'

/** A UUID of version 7 (RFC 9562): those of one time lie together, so that the index over them is written at its end. */
export function newReceiptId(nowMs: number): string {
  const time = nowMs.toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice(15)}`
}
