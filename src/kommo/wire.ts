import type { Json, JsonObject } from '../domain/json.ts'
import { isUsableId } from './storable.ts'

/** Tells a value apart, or answers `null` when it is not of the kind that is looked for. */
export type Reader<T> = (value: Json) => T | null

/** One of Kommo's objects while its fields are taken into columns; nothing that cannot be taken gets lost. */
export interface Fields {
  /** Reads a field and takes it out. A field that cannot be read stays, and so lands in `rest`. */
  take<T>(name: string, read: Reader<T>): T | null
  /** What nobody took. Kommo writes empty strings and `null` for what it does not know, so these are absent. */
  rest(): JsonObject
}

export function fieldsOf(object: JsonObject): Fields {
  const left = new Map<string, Json>()
  for (const [name, value] of Object.entries(object)) {
    if (!isEmpty(value)) left.set(name, value)
  }
  return {
    take(name, read) {
      const value = left.get(name)
      const result = value === undefined ? null : read(value)
      if (result !== null) left.delete(name)
      return result
    },
    // Unlike an assignment, this makes `__proto__` an own property.
    rest: () => Object.fromEntries(left),
  }
}

export function isEmpty(value: Json | undefined): value is '' | null | undefined {
  return value === undefined || value === null || value === ''
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A field of something that may not even be an object; never one that all objects inherit. */
export function fieldOf(value: unknown, name: string): Json | undefined {
  return isObject(value) && Object.hasOwn(value, name) ? value[name] : undefined
}

export const readObject: Reader<JsonObject> = (value) => (isObject(value) ? value : null)

export const readText: Reader<string> = (value) => (typeof value === 'string' && value !== '' ? value : null)

/** An id, or another text that sits in an index. */
export const readId: Reader<string> = (value) => (isUsableId(value) ? value : null)

/** A whole number that is not negative, also as a string: Kommo's tables and samples disagree (documented). */
export const readWholeNumber: Reader<number> = (value) => {
  const number = typeof value === 'string' && /^\d{1,16}$/.test(value) ? Number(value) : value
  return typeof number === 'number' && Number.isSafeInteger(number) && number >= 0 ? number : null
}

/** Unix time in whole milliseconds; 0 and what lies after the year 9999 is no date but a mistake. */
export const readMilliseconds: Reader<Date> = (value) => dateOf(value, 1)

/** Unix time in whole seconds. */
export const readSeconds: Reader<Date> = (value) => dateOf(value, 1000)

const END_OF_TIME_MS = Date.UTC(10_000, 0, 1)

function dateOf(value: Json, unitMs: number): Date | null {
  const ms = (readWholeNumber(value) ?? 0) * unitMs
  return ms > 0 && ms < END_OF_TIME_MS ? new Date(ms) : null
}
