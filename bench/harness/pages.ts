import type { MappedRecord } from '../../src/domain/message.ts'
import { mapHistoryRecord } from '../../src/kommo/map-message.ts'
import type { Conversation } from '../../src/simulated-kommo/conversation.ts'
import { historyRecord } from '../../src/simulated-kommo/history-record.ts'

export const PAGE_SIZE = 50

/** A page as a walk stores it, read at this moment. */
export function mappedPage(conversation: Conversation, offset: number, observedAt: Date): MappedRecord[] {
  const { id: conversationId, scopeId } = conversation
  return conversation
    .page(offset, PAGE_SIZE)
    .map(historyRecord)
    .map((record) => mapHistoryRecord(record, { scopeId, conversationId, observedAt }))
}
