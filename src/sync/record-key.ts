import { createHash } from 'node:crypto'
import type { MappedRecord } from '../domain/message.ts'

/** What tells a record from the others of its list: its message id, or its content where it has none. */
export function recordKey(record: MappedRecord): string {
  if (record.kind === 'mapped') return record.message.id
  return createHash('sha256').update(JSON.stringify(record.record)).digest('hex')
}
