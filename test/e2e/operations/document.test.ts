import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { expect, test } from 'vitest'
import { OPERATIONS, namedBlocks } from '../../helpers/operations/document.ts'

const here = new URL('.', import.meta.url)

test('every block of docs/operations.md has a name, and a test runs it', () => {
  const names = namedBlocks().map(({ name }) => name)
  expect(OPERATIONS.match(/^ *```\w+$/gm) ?? []).toHaveLength(names.length)
  const folders = [here, new URL('../../helpers/operations/', here)]
  const tests = folders
    .flatMap((folder) => readdirSync(folder).map((file) => readFileSync(new URL(file, folder), 'utf8')))
    .join('\n')
  expect(names.filter((name) => !tests.includes(`'${name}'`))).toEqual([])
})

test('every link of docs/operations.md leads somewhere', () => {
  const anchors = new Set(
    [...OPERATIONS.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
      title
        .toLowerCase()
        .replaceAll(/[^\w\- ]/g, '')
        .replaceAll(' ', '-'),
    ),
  )
  const targets = [...OPERATIONS.matchAll(/\]\(([^)]+)\)/g)].map(([, target = '']) => target)
  const broken = targets.filter((target) => {
    if (target.startsWith('https:')) return false
    if (target.startsWith('#')) return !anchors.has(target.slice(1))
    return !existsSync(new URL(`../../../docs/${target.split('#')[0] ?? ''}`, here))
  })
  expect(broken).toEqual([])
})
