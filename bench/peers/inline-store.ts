import type { Pool } from 'pg'
import type { MappedRecord, Message, Participant } from '../../src/domain/message.ts'
import type { InboxWebhook } from '../../src/domain/webhook.ts'
import { parseWebhook } from '../../src/kommo/classify-webhook.ts'
import { mapWebhookMessage } from '../../src/kommo/map-message.ts'

export interface InlineStore {
  storeWebhook(webhook: InboxWebhook): Promise<void>
  storeRecords(records: readonly MappedRecord[], conversation: Row): Promise<void>
}

type Row = Record<string, unknown>

/** What stripe-sync-engine sends at the same time. */
const AT_ONCE = 5

/**
 * The way of stripe-sync-engine (`packages/sync-engine/src/database/postgres.ts`), made again on our tables: related
 * rows first, then the thing itself, one upsert a row, five at a time, each a statement and a commit of its own, not
 * prepared by name, newer wins by a time stamp; all of it inside the request that brings the webhook.
 */
export function createInlineStore(pool: Pool): InlineStore {
  async function upsertMany(table: string, key: string, rows: readonly Row[], stamp: string): Promise<void> {
    for (let start = 0; start < rows.length; start += AT_ONCE) {
      const chunk = rows.slice(start, start + AT_ONCE)
      await Promise.all(chunk.map((row) => pool.query(upsert(table, key, row, stamp), Object.values(row))))
    }
  }

  async function storeRecords(records: readonly MappedRecord[], conversation: Row): Promise<void> {
    const mapped = records.filter((record) => record.kind === 'mapped')
    const people = new Map(mapped.flatMap(({ participants }) => participants).map((one) => [one.id, one]))
    const messages = mapped.map(({ message }) => message)
    await upsertMany('conversations', 'id', [conversation], 'last_message_at')
    await upsertMany('participants', 'id', [...people.values()].map(participantRow), 'updated_at')
    await upsertMany('messages', 'id', messages.map(messageRow), 'observed_at')
    await upsertMany('media', 'message_id', messages.flatMap(mediaRows), 'observed_at')
  }

  return {
    storeRecords,
    async storeWebhook({ body, scopeId, conversationId, conversationClientId, sentAt }) {
      if (scopeId === null || conversationId === null) throw new Error('not a webhook of a message')
      const receivedAt = new Date()
      const record = mapWebhookMessage(parseWebhook(body), { scopeId, conversationId, receivedAt })
      const conversation = { id: conversationId, scope_id: scopeId, client_id: conversationClientId }
      await storeRecords([record], { ...conversation, last_message_at: sentAt })
    },
  }
}

function upsert(table: string, key: string, row: Row, stamp: string): string {
  const names = Object.keys(row)
  return `INSERT INTO kommo.${table} AS t (${names.join(', ')})
    VALUES (${names.map((_, index) => `$${index + 1}`).join(', ')})
    ON CONFLICT (${key}) DO UPDATE SET ${names.map((name) => `${name} = excluded.${name}`).join(', ')}
    WHERE t.${stamp} IS NULL OR t.${stamp} <= excluded.${stamp}`
}

function participantRow(one: Participant): Row {
  return {
    id: one.id,
    scope_id: one.scopeId,
    client_id: one.clientId,
    name: one.name,
    phone: one.phone,
    email: one.email,
    avatar_url: one.avatarUrl,
    updated_at: one.observedAt,
  }
}

function messageRow(one: Message): Row {
  return {
    id: one.id,
    scope_id: one.scopeId,
    conversation_id: one.conversationId,
    client_id: one.clientId,
    sender_id: one.senderId,
    receiver_id: one.receiverId,
    direction: one.direction,
    type: one.type,
    text: one.text,
    sent_at: one.sentAt,
    media_group_id: one.mediaGroupId,
    extra: one.extra,
    observed_at: one.observedAt,
  }
}

function mediaRows({ id, media, observedAt }: Message): Row[] {
  if (media === null) return []
  return [
    {
      message_id: id,
      type: media.type,
      url: media.url,
      thumbnail_url: media.thumbnailUrl,
      file_name: media.fileName,
      file_size: media.fileSize,
      media_group_id: media.mediaGroupId,
      observed_at: observedAt,
    },
  ]
}
