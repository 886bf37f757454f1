// A process that uses the embedded Postgres of a folder: prints the address, waits for a line, stops, ends.
import { once } from 'node:events'
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts'

const [, , dataDir = ''] = process.argv
const silent = { info() {}, warn() {}, error() {} }

try {
  const server = await startEmbeddedPostgres({ dataDir, log: silent, durable: false })
  process.stdout.write(`${server.url}\n`)
  await once(process.stdin, 'data')
  await server.stop()
} catch (error) {
  process.stderr.write(String(error))
  process.exitCode = 1
}
process.stdin.destroy()
