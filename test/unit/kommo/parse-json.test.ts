import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseJson } from '../../../src/kommo/parse-json.ts'

describe('a number that a double cannot hold', () => {
  test.each([
    ['9007199254740992', '9007199254740992'],
    ['9007199254740993', '9007199254740993'],
    ['-9007199254740993', '-9007199254740993'],
    ['12345678901234567890', '12345678901234567890'],
    ['1e309', '1e309'],
    ['-1E+400', '-1E+400'],
    ['1.5e9999', '1.5e9999'],
    ['1e-400', '1e-400'],
    ['-0.1e-999', '-0.1e-999'],
  ])('%s survives as a string', (source, text) => {
    expect(parseJson(source)).toBe(text)
    expect(parseJson(`{"a":[1, ${source}]}`)).toEqual({ a: [1, text] })
  })

  test.each([
    '9007199254740991',
    '-9007199254740991',
    '0',
    '-73.980000000000004',
    '1e300',
    '5e-324',
    '0e999',
    '0.00000000000000000000',
  ])('%s stays a number', (source) => {
    expect(parseJson(`[${source}]`)).toEqual([Number(source)])
  })
})

test('digits inside strings are left alone', () => {
  const text = String.raw`{"a 12345678901234567890":", 12345678901234567890 \" :1e999 \\","b":1e999}`
  expect(parseJson(text)).toEqual({
    'a 12345678901234567890': String.raw`, 12345678901234567890 " :1e999 ` + '\\',
    b: '1e999',
  })
})

test.each(['{1234567890123456789:1}', '[01234567890123456789]', '[1234567890123456789', '', 'nope'])(
  '%j is still refused',
  (text) => {
    expect(() => parseJson(text)).toThrow(SyntaxError)
  },
)

test('a key named __proto__ becomes an own property and changes no prototype', () => {
  for (const number of ['1', '12345678901234567890']) {
    const value = parseJson(`{"__proto__":{"isAdmin":true},"n":${number}}`)
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype)
    expect(Object.keys(value ?? {})).toEqual(['__proto__', 'n'])
    expect(value).not.toHaveProperty('isAdmin')
  }
})

test('a megabyte of nesting does not overflow the stack', () => {
  const depth = 500_000
  expect(() => parseJson(`${'['.repeat(depth)}12345678901234567890${']'.repeat(depth)}`)).not.toThrow()
})

test('but for such numbers, JSON is parsed as JSON.parse does', () => {
  fc.assert(
    fc.property(fc.json(), (text) => {
      expect(parseJson(text)).toEqual(JSON.parse(text, unsafeIntegersAsText))
    }),
  )
})

function unsafeIntegersAsText(_key: string, value: unknown): unknown {
  const isUnsafe = typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(String(value))
  return isUnsafe ? String(value) : value
}

test('every whole number survives', () => {
  fc.assert(
    fc.property(fc.bigInt(), fc.string(), (number, key) => {
      const parsed = parseJson(JSON.stringify({ [`${key}!`]: 0 }).replace(/0\}$/, `${number}}`))
      expect(Object.values(parsed ?? {}).map(String)).toEqual([String(number)])
    }),
  )
})
