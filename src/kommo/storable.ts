import type { Json } from '../domain/json.ts'

/** What stands for a character that Postgres cannot hold. */
const REPLACEMENT = '\u{FFFD}'

/** NUL, and halves of surrogate pairs: JSON can spell both, `text` and `jsonb` refuse them. */
const UNSTORABLE = /\0|\p{Surrogate}/gu

/** Ours, not Kommo's: keeps every recursion over a value shallow. Kommo's own objects nest less than ten deep. */
export const MAX_DEPTH = 64

/** Stands for what was nested deeper than `MAX_DEPTH`. */
export const TOO_DEEP = '[nested too deeply]'

/** A list of more paths than this helps nobody, and would be larger than the value. */
const MAX_REPORTED_PATHS = 100
const MAX_REPORTED_KEY_LENGTH = 64

/** A btree entry holds at most 2704 bytes; this leaves room for a second column in the index. */
const MAX_ID_BYTES = 1024

export interface Storable {
  value: Json
  /** Where something was replaced, like `message.text` or `items.0`; at most 100 paths. */
  replaced: string[]
}

/**
 * Makes a parsed JSON value fit for `text` and `jsonb`. The usual, clean value is returned as it is.
 * NUL and lone surrogates, in keys too, become U+FFFD; what is nested too deeply becomes a marker; numbers that JSON
 * cannot spell become strings.
 */
export function makeStorable(value: unknown): Storable {
  if (isStorable(value, 0)) return { value, replaced: [] }
  const replaced: string[] = []
  return { value: replaceUnstorable(value, [], replaced), replaced }
}

/**
 * Whether a value can be a key of ours: a non-empty string that fits into an index. U+FFFD is refused, because it
 * stands for a character that was lost: two ids could have become the same.
 */
export function isUsableId(value: unknown): value is string {
  return (
    typeof value === 'string' &&
    value !== '' &&
    value.length <= MAX_ID_BYTES &&
    isCleanText(value) &&
    !value.includes(REPLACEMENT) &&
    Buffer.byteLength(value) <= MAX_ID_BYTES
  )
}

function isCleanText(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0')
}

function isStorable(value: unknown, depth: number): value is Json {
  if (typeof value === 'string') return isCleanText(value)
  if (typeof value === 'number') return Number.isFinite(value)
  if (typeof value !== 'object') return typeof value === 'boolean'
  if (value === null) return true
  if (depth >= MAX_DEPTH) return false
  if (Array.isArray(value)) return value.every((item) => isStorable(item, depth + 1))
  return Object.entries(value).every(([key, item]) => isCleanText(key) && isStorable(item, depth + 1))
}

/** @param path the keys that lead to the value; restored before returning */
function replaceUnstorable(value: unknown, path: string[], replaced: string[]): Json {
  if (isStorable(value, path.length)) return value
  if (Array.isArray(value) && path.length < MAX_DEPTH) {
    return value.map((item, index) => replaceChild(item, String(index), path, replaced))
  }
  if (typeof value === 'object' && value !== null && path.length < MAX_DEPTH) {
    const nameOf = createKeyCleaner(value)
    const entries = Object.entries(value).map(([key, item]): [string, Json] => {
      const name = nameOf(key)
      if (name !== key) report([...path, name], replaced)
      return [name, replaceChild(item, name, path, replaced)]
    })
    // Unlike an assignment, this makes `__proto__` an own property.
    return Object.fromEntries(entries)
  }

  report(path, replaced)
  if (typeof value === 'string') return cleanText(value)
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  // Nothing else comes out of JSON.
  return typeof value === 'object' ? TOO_DEEP : null
}

function replaceChild(value: unknown, key: string, path: string[], replaced: string[]): Json {
  path.push(key)
  const result = replaceUnstorable(value, path, replaced)
  path.pop()
  return result
}

function cleanText(text: string): string {
  return text.replace(UNSTORABLE, REPLACEMENT)
}

/** Two different keys of an object must not become one: the second gets a number. */
function createKeyCleaner(object: object): (key: string) => string {
  const timesUsed = new Map<string, number>()
  return (key) => {
    if (isCleanText(key)) return key
    const name = cleanText(key)
    let used = timesUsed.get(name) ?? 0
    let free: string
    do {
      used += 1
      free = used === 1 ? name : `${name}${used}`
    } while (Object.hasOwn(object, free))
    timesUsed.set(name, used)
    return free
  }
}

function report(path: readonly string[], replaced: string[]): void {
  if (replaced.length >= MAX_REPORTED_PATHS) return
  const shown = path.map((key) => key.slice(0, MAX_REPORTED_KEY_LENGTH).toWellFormed()).join('.')
  if (!replaced.includes(shown)) replaced.push(shown)
}
