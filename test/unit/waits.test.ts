import { globSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ROOT } from '../helpers/tool.ts'

/** The arguments of each call of the function, as they are written. */
function callsOf(name: string, source: string): string[] {
  return source
    .split(`${name}(`)
    .slice(1)
    .map((rest) => {
      let open = 1
      const end = [...rest].findIndex((sign) => {
        if (sign === '(') open += 1
        if (sign === ')') open -= 1
        return open === 0
      })
      return rest.slice(0, end)
    })
}

test('no test waits with the bound of one second that vitest has: on a busy machine that is an instant', () => {
  const calls = globSync(`${ROOT}/test/**/*.ts`, { exclude: [import.meta.filename] }).flatMap((path) => {
    const source = readFileSync(path, 'utf8')
    return ['vi.waitFor', 'vi.waitUntil', 'expect.poll'].flatMap((name) => callsOf(name, source))
  })
  expect(calls.length).toBeGreaterThan(50)
  expect(calls.filter((call) => !/\b(SOON|timeout)\b/.test(call))).toEqual([])
})
