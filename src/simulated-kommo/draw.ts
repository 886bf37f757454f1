import { createHash } from 'node:crypto'

/**
 * Chance without state: the same seed, index and purpose always give the same number, so that record 900,000 of a
 * conversation can be made without the ones before it.
 */
export function draw(seed: number, index: number, purpose: number): number {
  return mix(mix(seed ^ Math.imul(index + 1, 0x9e3779b1)) + Math.imul(purpose + 1, 0x85ebca6b))
}

/** One of `count` choices, 0-based. */
export function drawBelow(count: number, seed: number, index: number, purpose: number): number {
  return draw(seed, index, purpose) % count
}

/** Four 32-bit words that stand for a name: where seeds and ids begin. */
export function wordsOf(name: string): [number, number, number, number] {
  const digest = createHash('sha1').update(name).digest()
  return [digest.readUInt32BE(0), digest.readUInt32BE(4), digest.readUInt32BE(8), digest.readUInt32BE(12)]
}

/** A UUID that looks like version 4; all of the first word survives, the others lose six bits to the version. */
export function uuidFromWords(a: number, b: number, c: number, d: number): string {
  const version = hex((b & 0x0fff) | 0x4000)
  const variant = hex(((c >>> 16) & 0x3fff) | 0x8000)
  return `${hex(a >>> 16)}${hex(a)}-${hex(b >>> 16)}-${version}-${variant}-${hex(c)}${hex(d >>> 16)}${hex(d)}`
}

/** The UUID that belongs to a name. */
export function uuidOf(name: string): string {
  return uuidFromWords(...wordsOf(name))
}

const hexOfTwoBytes = Array.from({ length: 0x10000 }, (_, word) => word.toString(16).padStart(4, '0'))

/** Four digits; looked up, since ids are most of the work of a page. */
function hex(twoBytes: number): string {
  return hexOfTwoBytes[twoBytes & 0xffff] ?? ''
}

/** The finalizer of MurmurHash3's kin "lowbias32": every bit of the input reaches every bit of the result. */
function mix(value: number): number {
  let word = value | 0
  word = Math.imul(word ^ (word >>> 16), 0x21f0aaad)
  word = Math.imul(word ^ (word >>> 15), 0x735a2d97)
  return (word ^ (word >>> 15)) >>> 0
}
