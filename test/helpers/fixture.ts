import { readFileSync } from 'node:fs'

/** The bytes of a file in `test/fixtures`. */
export function fixtureBytes(name: string): Buffer {
  return readFileSync(new URL(`../fixtures/${name}.json`, import.meta.url))
}

export function fixture(name: string): unknown {
  return JSON.parse(fixtureBytes(name).toString())
}
