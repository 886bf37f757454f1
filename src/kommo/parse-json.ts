/**
 * What may be a number that a double cannot hold: 16 digits or more, or an exponent of three digits. Numbers follow
 * one of these characters, so the digits of UUIDs and links, inside strings, hardly ever match.
 */
const SUSPICIOUS_NUMBER = /(?:^|[:,[\s])-?(?:[\d.]{16}|[\d.]+e[+-]?\d{3})/i

/** In valid JSON a backslash occurs in strings only, so these tokens are enough to know what is inside a string. */
const TOKEN = /\\.|"|-?\d[\d.eE+-]*/g

/**
 * `JSON.parse` that loses no number: an integer beyond `Number.MAX_SAFE_INTEGER` and a number that would become
 * Infinity or 0 are given as strings of their digits. Strings, because every part on the way to a `jsonb` column
 * holds them (a raw JSON number is no `Json`, and Postgres refuses one like 1e200000). Fractions are left alone: they
 * were doubles where they came from.
 *
 * The numbers are put into quotes in the text and not by a reviver, which would overflow the stack on deep nesting.
 * Keys named `__proto__` become own properties, as `JSON.parse` makes them.
 * @throws SyntaxError; its message quotes the text, so it must not be logged.
 */
export function parseJson(text: string): unknown {
  const value: unknown = JSON.parse(text)
  return SUSPICIOUS_NUMBER.test(text) ? JSON.parse(quoteLossyNumbers(text)) : value
}

/** @param text valid JSON */
function quoteLossyNumbers(text: string): string {
  let isInString = false
  return text.replace(TOKEN, (token) => {
    if (token === '"') isInString = !isInString
    const isNumber = !isInString && token !== '"'
    return isNumber && isLossy(token) ? `"${token}"` : token
  })
}

function isLossy(source: string): boolean {
  const value = Number(source)
  if (!Number.isFinite(value)) return true
  if (value === 0) return /^[^e]*[1-9]/i.test(source)
  return !Number.isSafeInteger(value) && /^-?\d+$/.test(source)
}
