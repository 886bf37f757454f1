import { mergeMessages } from '../domain/merge.ts'
import type { MappedRecord, Message, Participant } from '../domain/message.ts'
import { Prisma } from './generated/client.ts'
import type { Queryable } from './connection/queryable.ts'
import { withoutWaiting } from './connection/without-waiting.ts'

/** What goes into one statement with the records: all of it is stored, or nothing. */
export interface Together {
  /** Finds and locks the rows without which nothing may be stored; the statement calls them `held`. */
  held: Prisma.Sql
  /** Further writes, each of which joins `held` or asks for it. */
  writes: readonly Prisma.Sql[]
}

export interface StoredRecords {
  inserted: number
  updated: number
  unchanged: number
  /** Those of the inserted that the company wrote: of these Kommo tells. */
  insertedOutgoing: number
  /** Of each inserted message whose time Kommo told: how long ago that was, by the clocks of both. */
  insertedLagMs: number[]
}

/** The columns of which the newest sighting that has a value decides. */
const PARTICIPANT_FIELDS = ['client_id', 'name', 'phone', 'email', 'avatar_url']
/** The columns of which the newer observation of the whole row decides. */
const MESSAGE_FIELDS = [
  'scope_id',
  'conversation_id',
  'client_id',
  'sender_id',
  'receiver_id',
  'type',
  'text',
  'sent_at',
  'media_group_id',
]
const MEDIA_FIELDS = ['type', 'url', 'thumbnail_url', 'file_name', 'file_size', 'media_group_id']

/** The newer observation wins; what is absent never wins over what is known. */
function newer(table: string, column: string): string {
  return `CASE WHEN excluded.observed_at >= ${table}.observed_at
    THEN COALESCE(excluded.${column}, ${table}.${column}) ELSE COALESCE(${table}.${column}, excluded.${column}) END`
}

interface Column {
  name: string
  merged: string
}

/** Writes the merged values, and nothing at all where they are what is stored: no dead row for a page read again. */
function onConflict(
  table: string,
  key: string,
  columns: readonly Column[],
  stamps: readonly Column[],
): string {
  const all = [...columns, ...stamps]
  return `ON CONFLICT (${key}) DO UPDATE SET
    ${all.map(({ name, merged }) => `${name} = ${merged}`).join(',\n    ')},
    updated_at = now()
  WHERE (${columns.map(({ name }) => `${table}.${name}`).join(', ')})
    IS DISTINCT FROM (${columns.map(({ merged }) => merged).join(',\n    ')})`
}

const stamp = (table: string): Column => ({
  name: 'observed_at',
  merged: `GREATEST(${table}.observed_at, excluded.observed_at)`,
})

const decidedByNewer = (table: string, names: readonly string[]): Column[] =>
  names.map((name) => ({ name, merged: newer(table, name) }))

/**
 * People are seen in many conversations, in any order and often in part (webhooks leave names empty, seen), so each of
 * their columns has its own time: a whole row's would let a nameless sighting age the name.
 * ISO times of one length compare as text.
 */
const MERGE_PARTICIPANT = onConflict(
  'p',
  'id',
  [
    { name: 'scope_id', merged: 'excluded.scope_id' },
    ...PARTICIPANT_FIELDS.map((name) => ({
      name,
      merged: `CASE WHEN excluded.seen_at->>'${name}' >= COALESCE(p.seen_at->>'${name}', '') COLLATE "C"
        THEN excluded.${name} ELSE p.${name} END`,
    })),
    {
      name: 'seen_at',
      merged: `jsonb_strip_nulls(jsonb_build_object(${PARTICIPANT_FIELDS.map(
        (name) =>
          `'${name}', GREATEST(p.seen_at->>'${name}' COLLATE "C", excluded.seen_at->>'${name}' COLLATE "C")`,
      ).join(', ')}))`,
    },
  ],
  [],
)

const MERGE_MESSAGE = onConflict(
  'm',
  'id',
  [
    ...decidedByNewer('m', MESSAGE_FIELDS),
    // Once Kommo has named a receiver, a sighting without one is only less complete.
    { name: 'direction', merged: 'GREATEST(m.direction, excluded.direction)' },
    {
      name: 'extra',
      merged:
        'CASE WHEN excluded.observed_at >= m.observed_at THEN m.extra || excluded.extra ELSE excluded.extra || m.extra END',
    },
    { name: 'first_walk', merged: 'COALESCE(m.first_walk, excluded.first_walk)' },
    // What a walk finds is not missing any more.
    { name: 'missing_since', merged: 'CASE WHEN excluded.first_walk IS NULL THEN m.missing_since END' },
  ],
  // An unchanged message is not written again only to say when it was seen last.
  [stamp('m')],
)

const MERGE_MEDIA = onConflict('d', 'message_id', decidedByNewer('d', MEDIA_FIELDS), [stamp('d')])

const STORE_RECORDS = {
  participants: Prisma.raw(`
    INSERT INTO kommo.participants AS p (id, scope_id, client_id, name, phone, email, avatar_url, seen_at)
    SELECT id, scope_id, client_id, name, phone, email, avatar_url, seen_at FROM input_participants ORDER BY id
    ${MERGE_PARTICIPANT}`),
  messages: Prisma.raw(`
    INSERT INTO kommo.messages AS m (
      id, scope_id, conversation_id, client_id, sender_id, receiver_id, direction, type, text, sent_at, media_group_id,
      extra, observed_at, first_walk)
    SELECT
      id, scope_id, conversation_id, client_id, sender_id, receiver_id, direction, type, text, sent_at, media_group_id,
      extra, observed_at, first_walk
    FROM input_messages ORDER BY id
    ${MERGE_MESSAGE}
    RETURNING (xmax = 0) AS inserted, sent_at, direction`),
  media: Prisma.raw(`
    INSERT INTO kommo.media AS d (message_id, type, url, thumbnail_url, file_name, file_size, media_group_id, observed_at)
    SELECT id, media_type, media_url, thumbnail_url, file_name, file_size, media_group_id, observed_at
    FROM input_messages WHERE media_url IS NOT NULL ORDER BY id
    ${MERGE_MEDIA}`),
}

const NOTHING: StoredRecords = {
  inserted: 0,
  updated: 0,
  unchanged: 0,
  insertedOutgoing: 0,
  insertedLagMs: [],
}

const ALONE: Together = { held: Prisma.sql`SELECT`, writes: [] }

/**
 * Stores messages with their participants and media in one statement, however often and in whatever order they come.
 * Rows are sorted by key, so that two writers never deadlock.
 *
 * @param walk number of the history walk that read them; `null` for webhooks.
 */
export async function storeRecords(
  db: Queryable,
  records: readonly MappedRecord[],
  walk: number | null,
): Promise<StoredRecords> {
  if (!records.some(({ kind }) => kind === 'mapped')) return NOTHING
  return (await storeTogether(db, records, walk, ALONE)) ?? NOTHING
}

/** @returns `null` where nothing is held, and then nothing is stored */
export async function storeTogether(
  db: Queryable,
  records: readonly MappedRecord[],
  walk: number | null,
  { held, writes }: Together,
): Promise<StoredRecords | null> {
  const mapped = records.filter((record) => record.kind === 'mapped')
  const messages = mergeMessages(mapped.map(({ message }) => message))
  const participants = participantRows(mapped.flatMap((record) => record.participants))

  const [counts] = await db.$queryRaw<
    {
      isHeld: boolean
      inserted: number
      updated: number
      insertedOutgoing: number
      insertedLagMs: number[] | null
    }[]
  >`
    WITH held AS MATERIALIZED (${held}), input_participants AS MATERIALIZED (
      SELECT * FROM json_to_recordset(${JSON.stringify(participants)}::json) AS t (
        id text, scope_id text, client_id text, name text, phone text, email text, avatar_url text,
        seen_at jsonb)
      WHERE EXISTS (SELECT FROM held)
    ), input_messages AS MATERIALIZED (
      SELECT *, ${walk}::int AS first_walk
      FROM json_to_recordset(${JSON.stringify(messages.map(messageRow))}::json) AS t (
        id text, scope_id text, conversation_id text, client_id text, sender_id text, receiver_id text,
        direction kommo.direction, type text, text text, sent_at timestamptz(3), media_group_id text, extra jsonb,
        observed_at timestamptz(3), media_type text, media_url text, thumbnail_url text, file_name text,
        file_size bigint)
      WHERE EXISTS (SELECT FROM held)
    ), stored_participants AS (${STORE_RECORDS.participants}),
    stored_messages AS (${STORE_RECORDS.messages}),
    stored_media AS (${STORE_RECORDS.media})${besides(writes)}
    SELECT EXISTS (SELECT FROM held) AS "isHeld",
      (count(*) FILTER (WHERE inserted))::int AS inserted, (count(*) FILTER (WHERE NOT inserted))::int AS updated,
      (count(*) FILTER (WHERE inserted AND direction = 'outgoing'))::int AS "insertedOutgoing",
      array_agg((extract(epoch FROM clock_timestamp() - sent_at) * 1000)::float8)
        FILTER (WHERE inserted AND sent_at IS NOT NULL) AS "insertedLagMs",
      ${withoutWaiting} AS commits
    FROM stored_messages`

  if (counts === undefined) throw new Error('unreachable: aggregates return one row')
  const { isHeld, inserted, updated, insertedOutgoing, insertedLagMs } = counts
  if (!isHeld) return null
  return {
    inserted,
    updated,
    unchanged: messages.length - inserted - updated,
    insertedOutgoing,
    insertedLagMs: insertedLagMs ?? [],
  }
}

function besides(writes: readonly Prisma.Sql[]): Prisma.Sql {
  if (writes.length === 0) return Prisma.empty
  const named = writes.map((write, place) => Prisma.sql`${Prisma.raw(`write_${place}`)} AS (${write})`)
  return Prisma.join(named, ', ', ', ')
}

/** Keeps the records that have no usable message id, each once, so that nothing Kommo said is lost. */
export function unmappedRecords(
  conversationId: string,
  records: readonly MappedRecord[],
): readonly Prisma.Sql[] {
  const unmapped = records.filter((record) => record.kind === 'unmapped')
  if (unmapped.length === 0) return []
  return [
    Prisma.sql`
      INSERT INTO kommo.unmapped_records (conversation_id, digest, record, reason)
      SELECT DISTINCT ON (md5(record::text)) ${conversationId}, md5(record::text), record, reason
      FROM json_to_recordset(${JSON.stringify(unmapped)}::json) AS t (record jsonb, reason text)
      WHERE EXISTS (SELECT FROM held)
      ORDER BY md5(record::text)
      ON CONFLICT DO NOTHING`,
  ]
}

interface ParticipantRow {
  id: string
  scope_id: string
  client_id: string | null
  name: string | null
  phone: string | null
  email: string | null
  avatar_url: string | null
  /** By column. */
  seen_at: Record<string, Date>
}

/** One row for each person, whose columns come from the newest sighting that has a value. */
function participantRows(sightings: readonly Participant[]): ParticipantRow[] {
  const rows = new Map<string, ParticipantRow>()
  const oldestFirst = sightings.toSorted((a, b) => a.observedAt.getTime() - b.observedAt.getTime())
  for (const seen of oldestFirst) {
    const known = rows.get(seen.id)
    const columns = {
      client_id: seen.clientId,
      name: seen.name,
      phone: seen.phone,
      email: seen.email,
      avatar_url: seen.avatarUrl,
    }
    const given = Object.entries(columns).filter(([, value]) => value !== null)
    rows.set(seen.id, {
      ...(known ?? columns),
      ...Object.fromEntries(given),
      id: seen.id,
      scope_id: seen.scopeId,
      seen_at: { ...known?.seen_at, ...Object.fromEntries(given.map(([name]) => [name, seen.observedAt])) },
    })
  }
  return [...rows.values()]
}

function messageRow(m: Message) {
  return {
    id: m.id,
    scope_id: m.scopeId,
    conversation_id: m.conversationId,
    client_id: m.clientId,
    sender_id: m.senderId,
    receiver_id: m.receiverId,
    direction: m.direction,
    type: m.type,
    text: m.text,
    sent_at: m.sentAt,
    media_group_id: m.mediaGroupId,
    extra: m.extra,
    observed_at: m.observedAt,
    media_type: m.media?.type ?? null,
    media_url: m.media?.url ?? null,
    thumbnail_url: m.media?.thumbnailUrl ?? null,
    file_name: m.media?.fileName ?? null,
    file_size: m.media?.fileSize ?? null,
  }
}
