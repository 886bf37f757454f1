import { isDeepStrictEqual } from 'node:util'
import type { Pool } from 'pg'
import { z } from 'zod'
import type { Conversation } from '../../src/simulated-kommo/conversation.ts'
import { shownPerson } from '../../src/simulated-kommo/message.ts'

/** Compares the tables with what the simulated Kommo knows, by code that shares nothing with the service. */

type Row = Record<string, unknown>
type Table = Map<string, Row>

export interface Tables {
  conversations: Table
  participants: Table
  messages: Table
  media: Table
}

/** What one message shows of a person. */
interface Sighting {
  atMs: number
  scopeId: string
  id: string
  clientId: string | null
  name: string
  phone: string
  email: string
  avatar: string
}

const personInWebhook = z.object({
  id: z.string(),
  client_id: z.string().nullable().default(null),
  name: z.string().default(''),
  phone: z.string().default(''),
  email: z.string().default(''),
})

const messageWebhook = z.object({
  message: z.object({
    msec_timestamp: z.number(),
    conversation: z.object({ id: z.string() }),
    sender: personInWebhook,
    receiver: personInWebhook,
    message: z.object({ id: z.string() }),
  }),
})

/**
 * What the tables must hold once everything is synced.
 * @param messageWebhooks bodies of the message webhooks that were sent: they tell more than the history
 */
export function expectedTables(
  conversations: readonly Conversation[],
  messageWebhooks: Iterable<Uint8Array>,
): Tables {
  const told = [...messageWebhooks].map(
    (bytes) => messageWebhook.parse(JSON.parse(Buffer.from(bytes).toString())).message,
  )
  const toldIds = new Set(told.map(({ message }) => message.id))
  const scopeOf = new Map(conversations.map(({ id, scopeId }) => [id, scopeId]))
  const sightings: Sighting[] = told.flatMap(({ msec_timestamp: atMs, sender, receiver, conversation }) =>
    [sender, receiver].map((person) => ({
      ...person,
      atMs,
      scopeId: scopeOf.get(conversation.id) ?? '',
      clientId: person.client_id,
      avatar: '',
    })),
  )

  const tables: Omit<Tables, 'participants'> = {
    conversations: new Map(),
    messages: new Map(),
    media: new Map(),
  }
  for (const conversation of conversations) {
    for (const message of conversation.messages()) {
      const people = [message.sender, ...(message.receiver === null ? [] : [message.receiver])]
      for (const person of people) {
        const shown = shownPerson(person, message.quirks)
        sightings.push({ ...shown, scopeId: conversation.scopeId, atMs: message.sentAtMs })
      }
    }
    addConversation(tables, conversation, toldIds)
  }
  return { ...tables, participants: peopleOf(sightings) }
}

function addConversation(
  { conversations, messages, media }: Omit<Tables, 'participants'>,
  conversation: Conversation,
  toldIds: ReadonlySet<string>,
): void {
  let newestMs: number | null = null
  for (const truth of conversation.truth()) {
    newestMs = Math.max(newestMs ?? 0, truth.sentAtMs)
    const fromWebhook = toldIds.has(truth.id)
      ? { ...truth.extra.webhook, ...(truth.source === null ? {} : { source: truth.source }) }
      : {}
    messages.set(truth.id, {
      scope_id: truth.scopeId,
      conversation_id: truth.conversationId,
      client_id: truth.clientId,
      sender_id: truth.senderId,
      receiver_id: truth.receiverId,
      direction: truth.direction,
      type: truth.type,
      text: truth.text,
      sent_at: iso(truth.sentAtMs),
      media_group_id: truth.mediaGroupId,
      extra: { ...truth.extra.history, ...fromWebhook },
    })
    if (truth.media === null) continue
    media.set(truth.id, {
      type: truth.media.type,
      url: truth.media.url,
      thumbnail_url: truth.media.thumbnailUrl,
      file_name: truth.media.fileName,
      file_size: truth.media.fileSize,
      media_group_id: truth.media.mediaGroupId,
    })
  }
  conversations.set(conversation.id, {
    scope_id: conversation.scopeId,
    client_id: conversation.clientId,
    history_complete: true,
    was_synced: true,
    last_message_at: newestMs === null ? null : iso(newestMs),
    is_behind: false,
    attempts: 0,
    last_error: null,
    dead_at: null,
  })
}

/** Of each field, what the newest message says that says anything. */
function peopleOf(sightings: readonly Sighting[]): Table {
  const table: Table = new Map()
  for (const seen of sightings.toSorted((a, b) => a.atMs - b.atMs)) {
    const before = table.get(seen.id)
    table.set(seen.id, {
      scope_id: seen.scopeId,
      client_id: seen.clientId ?? before?.['client_id'] ?? null,
      name: seen.name || (before?.['name'] ?? null),
      phone: seen.phone || (before?.['phone'] ?? null),
      email: seen.email || (before?.['email'] ?? null),
      avatar_url: seen.avatar || (before?.['avatar_url'] ?? null),
    })
  }
  return table
}

/** The tables as they are, by plain SQL. */
export async function storedTables(pool: Pool): Promise<Tables> {
  return {
    conversations: await read(
      pool,
      `SELECT id AS key, scope_id, client_id, history_complete, synced_at IS NOT NULL AS was_synced, last_message_at,
        requested > processed AS is_behind, attempts, last_error, dead_at FROM kommo.conversations`,
    ),
    participants: await read(
      pool,
      'SELECT id AS key, scope_id, client_id, name, phone, email, avatar_url FROM kommo.participants',
    ),
    messages: await read(
      pool,
      `SELECT id AS key, scope_id, conversation_id, client_id, sender_id, receiver_id, direction, type, text, sent_at,
        media_group_id, extra FROM kommo.messages`,
    ),
    media: await read(
      pool,
      `SELECT message_id AS key, type, url, thumbnail_url, file_name, file_size::float8 AS file_size, media_group_id
      FROM kommo.media`,
    ),
  }
}

async function read(pool: Pool, sql: string): Promise<Table> {
  const { rows } = await pool.query<Row & { key: string }>(sql)
  return new Map(
    rows.map(({ key, ...fields }) => [
      key,
      Object.fromEntries(
        Object.entries(fields).map(([name, value]) => [
          name,
          value instanceof Date ? value.toISOString() : value,
        ]),
      ),
    ]),
  )
}

/** Each field that is not as it should be, as a sentence; the first twenty. */
export function differences(stored: Tables, expected: Tables): string[] {
  const names = ['conversations', 'participants', 'messages', 'media'] as const
  return names.flatMap((name) => [...tableDifferences(name, stored[name], expected[name])]).slice(0, 20)
}

function* tableDifferences(name: string, stored: Table, expected: Table): Generator<string> {
  for (const [key, wanted] of expected) {
    const row = stored.get(key)
    if (row === undefined) {
      yield `${name} ${key} is missing`
      continue
    }
    for (const [field, value] of Object.entries(wanted)) {
      if (isDeepStrictEqual(row[field], value)) continue
      yield `${name} ${key}: ${field} is ${JSON.stringify(row[field])}, not ${JSON.stringify(value)}`
    }
  }
  for (const key of stored.keys()) if (!expected.has(key)) yield `${name} ${key} is not in Kommo`
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
