import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MAX_DEPTH, TOO_DEEP, isUsableId, makeStorable } from '../../../src/kommo/storable.ts'

const nest = (depth: number): unknown => JSON.parse('['.repeat(depth) + ']'.repeat(depth))

describe('what Postgres cannot hold', () => {
  test('a clean value is returned as it is', () => {
    const value = { a: ['👋', 1, null, true, { b: 'Olá' }] }
    expect(makeStorable(value)).toEqual({ value, replaced: [] })
    expect(makeStorable(value).value).toBe(value)
  })

  test('NUL and halves of surrogate pairs become U+FFFD, and their paths are told', () => {
    const value = { text: 'a\0b', list: ['fine', '\uD83D', '👋'], deep: { x: '\uDC4B!' } }
    expect(makeStorable(value)).toEqual({
      value: { text: 'a\uFFFDb', list: ['fine', '\uFFFD', '👋'], deep: { x: '\uFFFD!' } },
      replaced: ['text', 'list.1', 'deep.x'],
    })
  })

  test('keys are made storable without two of them becoming one', () => {
    const value = { 'a\0': 1, 'a\uD800': 2, 'a\uFFFD': 3, 'a\uFFFD2': 4 }
    const { value: storable } = makeStorable(value)
    expect(Object.values(storable ?? {})).toEqual([1, 2, 3, 4])
    expect(new Set(Object.keys(storable ?? {})).size).toBe(4)
  })

  test('a key named __proto__ stays an own property', () => {
    const { value } = makeStorable(JSON.parse(String.raw`{"__proto__":{"x":"\u0000"}}`))
    expect(JSON.stringify(value)).toBe('{"__proto__":{"x":"\uFFFD"}}')
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype)
  })

  test.each([Infinity, -Infinity, NaN])('%d becomes a string', (number) => {
    expect(makeStorable([number])).toEqual({ value: [String(number)], replaced: ['0'] })
  })

  test('nesting is kept down to 64 levels and replaced below', () => {
    expect(makeStorable(nest(MAX_DEPTH)).replaced).toEqual([])
    const { value, replaced } = makeStorable(nest(MAX_DEPTH + 1))
    expect(JSON.stringify(value)).toContain(TOO_DEEP)
    expect(replaced).toHaveLength(1)
  })

  test('a megabyte of brackets does not overflow the stack', () => {
    const { value } = makeStorable(nest(524_288))
    expect(JSON.stringify(value).length).toBeLessThan(200)
  })

  test('at most 100 paths are told, and long keys are cut', () => {
    const { replaced } = makeStorable({ ['k'.repeat(5000)]: Array.from({ length: 1000 }, () => '\0') })
    expect(replaced).toHaveLength(100)
    expect(Math.max(...replaced.map((path) => path.length))).toBeLessThan(100)
  })

  test('any JSON becomes storable, and what is storable stays', () => {
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: 'binary' }), (value) => {
        const { value: storable, replaced } = makeStorable(value)
        const text = JSON.stringify(storable)
        expect(text).not.toMatch(/\\u0000|\\ud[89a-f]/)
        expect(makeStorable(storable)).toEqual({ value: storable, replaced: [] })
        expect(storable === value).toBe(replaced.length === 0)
      }),
    )
  })
})

describe('an id', () => {
  test.each([
    ['a UUID', '0b1c2d3e-5555-4a55-8a55-000000000005'],
    ['a free string', 'my_int-1 👋'],
    ['1024 bytes', 'a'.repeat(1024)],
    ['1024 bytes in two-byte characters', 'é'.repeat(512)],
  ])('is usable: %s', (_name, value) => {
    expect(isUsableId(value)).toBe(true)
  })

  test.each([
    ['an empty string', ''],
    ['1025 bytes', 'a'.repeat(1025)],
    ['1026 bytes in two-byte characters', 'é'.repeat(513)],
    ['with NUL', 'a\0'],
    ['with half of a surrogate pair', 'a\uD800'],
    ['with a character that was lost', 'a\uFFFD'],
    ['null', null],
    ['nothing', undefined],
    ['a number', 7],
    ['a list', ['a']],
  ])('is not usable: %s', (_name, value) => {
    expect(isUsableId(value)).toBe(false)
  })
})
