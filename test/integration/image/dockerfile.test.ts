import { readFileSync } from 'node:fs'
import { basename, matchesGlob } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const read = (path: string) =>
  readFileSync(fileURLToPath(new URL(`../../../${path}`, import.meta.url)), 'utf8')

test('the image keeps the files of Prisma’s runtime that the generated client loads', () => {
  const deleted = [...read('Dockerfile').matchAll(/-name '([^']+)'/g)].map(([, glob = '']) => glob)
  const loaded = [...read('src/store/generated/internal/class.ts').matchAll(/import\("([^"]+)"\)/g)]
    .map(([, module = '']) => module)
    .filter((module) => module.startsWith('@prisma/client/runtime/'))

  expect(deleted.length).toBeGreaterThan(5)
  expect(loaded).not.toEqual([])
  expect(loaded.filter((module) => deleted.some((glob) => matchesGlob(basename(module), glob)))).toEqual([])
})
