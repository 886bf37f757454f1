import { join } from 'node:path'

/** What every process that a test starts is given: nothing of this one's settings, and code that is compiled once. */
export const CHILD_ENVIRONMENT = {
  PATH: process.env['PATH'] ?? '',
  // Half of the processor time of a start.
  NODE_COMPILE_CACHE: join(import.meta.dirname, '../../node_modules/.cache/compiled'),
}
