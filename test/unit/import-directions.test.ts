import { readFileSync, readdirSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const SRC = fileURLToPath(new URL('../../src', import.meta.url))

/** From the entries down: a room may import what stands below it, and itself. */
const FLOORS = [
  ['server.ts', 'cli.ts', 'demo'],
  ['command-line.ts'],
  ['commands'],
  ['services'],
  ['app.ts'],
  ['http'],
  ['inbox', 'sync'],
  ['kommo', 'store', 'embedded', 'simulated-kommo'],
  ['config.ts', 'metrics.ts', 'logger.ts'],
  ['domain', 'errors.ts', 'version.ts', 'broken-pipe.ts'],
  // The repository around src: package.json.
  ['..'],
]

/** Neighbours on one floor do not know each other; who may use what from outside the project. */
const ONLY = new Map<RegExp, string[]>([
  [/^(@prisma\/.*|prisma)$/, ['store']],
  [/^pg$/, ['store', 'embedded']],
  [/^undici$/, ['kommo']],
  [/^fastify/, ['http', 'app.ts', 'services']],
])

interface Import {
  file: string
  room: string
  target: string
}

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter(
  (file) => file.endsWith('.ts') && !file.startsWith('store/generated'),
)

const imports: Import[] = files.flatMap((file) =>
  [...readFileSync(join(SRC, file), 'utf8').matchAll(/(?:from|import\()\s*'([^']+)'/g)].map(([, target]) => ({
    file,
    room: roomOf(file),
    target: target ?? '',
  })),
)

function roomOf(file: string): string {
  return file.split('/')[0] ?? file
}

function floorOf(room: string): number {
  return FLOORS.findIndex((rooms) => rooms.includes(room))
}

test('every room has its floor', () => {
  expect(files.map(roomOf).filter((room) => floorOf(room) === -1)).toEqual([])
})

test('imports go one way, and neighbours do not know each other', () => {
  const wrong = imports
    .filter(({ target }) => target.startsWith('.'))
    .map((i) => ({ ...i, to: roomOf(relative(SRC, join(SRC, dirname(i.file), i.target))) }))
    .filter(({ room, to }) => to !== room && floorOf(to) <= floorOf(room))
  expect(wrong).toEqual([])
})

test.each([...ONLY])('%s is imported only where it belongs', (pattern, rooms) => {
  const wrong = imports.filter(({ room, target }) => pattern.test(target) && !rooms.includes(room))
  expect(wrong).toEqual([])
})

test('only the entries read the environment', () => {
  const readers = files.filter((file) => /process\.env\b/.test(readFileSync(join(SRC, file), 'utf8')))
  expect(readers.filter((file) => !['demo/demo.ts', 'cli.ts', 'server.ts'].includes(file))).toEqual([])
})
