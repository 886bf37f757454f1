import type { Json } from '../domain/json.ts'
import type { MappedRecord, Message } from '../domain/message.ts'
import type { Queryable } from './connection/queryable.ts'

export interface KnownConversation {
  id: string
  scopeId: string
}

export async function findConversations(db: Queryable, ids: readonly string[]): Promise<KnownConversation[]> {
  return db.$queryRaw<KnownConversation[]>`
    SELECT id, scope_id AS "scopeId" FROM kommo.conversations WHERE id = ANY(${ids}::text[]) ORDER BY id`
}

/** @param limit drawn at random; `null` for all */
export async function drawConversations(db: Queryable, limit: number | null): Promise<KnownConversation[]> {
  return db.$queryRaw<KnownConversation[]>`
    SELECT id, scope_id AS "scopeId" FROM (
      SELECT id, scope_id FROM kommo.conversations ORDER BY random() LIMIT ${limit}::int
    ) AS drawn ORDER BY id`
}

/** The database's clock, by which rows are dated. */
export async function readDatabaseTime(db: Queryable): Promise<Date> {
  const [row] = await db.$queryRaw<{ now: Date }[]>`SELECT clock_timestamp() AS now`
  if (row === undefined) throw new Error('unreachable: the statement returns one row')
  return row.now
}

/**
 * Whether a sync of the conversation may be about to store more: somebody holds it, or it was called for just now.
 * One that is due for longer is waited for by nobody: there may be no service.
 */
export async function isBeingSynced(db: Queryable, conversationId: string): Promise<boolean> {
  const rows = await db.$queryRaw<unknown[]>`
    SELECT 1 FROM kommo.conversations
    WHERE id = ${conversationId} AND requested > processed AND dead_at IS NULL AND run_after > now() - interval '2 s'
      AND (claim_id IS NOT NULL OR attempts = 0)`
  return rows.length > 0
}

export interface StoredMessage extends Message {
  missingSince: Date | null
}

interface MessageRow extends Omit<StoredMessage, 'media'> {
  mediaType: string | null
  mediaUrl: string | null
  thumbnailUrl: string | null
  fileName: string | null
  fileSize: number | null
  fileGroupId: string | null
}

/** Messages as they are stored, by id. */
export async function readStoredMessages(
  db: Queryable,
  ids: readonly string[],
): Promise<Map<string, StoredMessage>> {
  const rows = await db.$queryRaw<MessageRow[]>`
    SELECT m.id, m.scope_id AS "scopeId", m.conversation_id AS "conversationId", m.client_id AS "clientId",
      m.sender_id AS "senderId", m.receiver_id AS "receiverId", m.direction, m.type, m.text, m.sent_at AS "sentAt",
      m.media_group_id AS "mediaGroupId", m.extra, m.observed_at AS "observedAt", m.missing_since AS "missingSince",
      d.type AS "mediaType", d.url AS "mediaUrl", d.thumbnail_url AS "thumbnailUrl", d.file_name AS "fileName",
      d.file_size::float8 AS "fileSize", d.media_group_id AS "fileGroupId"
    FROM kommo.messages AS m LEFT JOIN kommo.media AS d ON d.message_id = m.id
    WHERE m.id = ANY(${ids}::text[])`
  return new Map(rows.map((row) => [row.id, storedMessage(row)]))
}

function storedMessage(row: MessageRow): StoredMessage {
  const { mediaType, mediaUrl, thumbnailUrl, fileName, fileSize, fileGroupId, ...message } = row
  const media =
    mediaUrl === null
      ? null
      : { type: mediaType, url: mediaUrl, thumbnailUrl, fileName, fileSize, mediaGroupId: fileGroupId }
  return { ...message, media }
}

/** How many of the records without a usable message id are not kept. */
export async function countUnkeptRecords(
  db: Queryable,
  conversationId: string,
  records: readonly MappedRecord[],
): Promise<number> {
  const unmapped: Json[] = records.flatMap((record) => (record.kind === 'unmapped' ? [record.record] : []))
  if (unmapped.length === 0) return 0
  const [row] = await db.$queryRaw<{ unkept: number }[]>`
    SELECT count(DISTINCT md5(record::text))::float8 AS unkept
    FROM jsonb_array_elements(${JSON.stringify(unmapped)}::jsonb) AS t (record)
    WHERE NOT EXISTS (
      SELECT FROM kommo.unmapped_records AS kept
      WHERE kept.conversation_id = ${conversationId} AND kept.digest = md5(t.record::text))`
  return row?.unkept ?? 0
}

export interface WalkedMessage {
  id: string
  missingSince: Date | null
}

/**
 * Ids of the conversation's messages that a history walk has seen and that were stored before a moment: all of them
 * are still in Kommo, or gone. What only a webhook told of proves nothing: the history may be a moment behind.
 */
export async function readWalkedMessages(
  db: Queryable,
  conversationId: string,
  { storedBefore, afterId, limit }: { storedBefore: Date; afterId: string; limit: number },
): Promise<WalkedMessage[]> {
  return db.$queryRaw<WalkedMessage[]>`
    SELECT id, missing_since AS "missingSince" FROM kommo.messages
    WHERE conversation_id = ${conversationId} AND first_walk IS NOT NULL AND id > ${afterId}
      AND created_at < ${storedBefore}::timestamptz
    ORDER BY id LIMIT ${limit}::int`
}
