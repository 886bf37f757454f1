import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { mergeMessages } from '../../../src/domain/merge.ts'
import type { MappedRecord, Media, Message, Participant } from '../../../src/domain/message.ts'
import { Prisma } from '../../../src/store/generated/client.ts'
import { storeRecords, storeTogether, unmappedRecords } from '../../../src/store/records.ts'
import { type TestDatabase, createTestDatabase } from '../../helpers/database.ts'
import { SCOPE, at, mediaSeen, messageSeen, participantSeen, recordSeen } from '../../helpers/sighting.ts'

let database: TestDatabase
let made = 0

beforeAll(async () => {
  database = await createTestDatabase()
  await database.pool.query('INSERT INTO kommo.conversations (id, scope_id) VALUES ($1, $2)', [
    'conversation-1',
    SCOPE,
  ])
})

afterAll(() => database.drop())

const newId = () => `id-${(made += 1)}`

const store = (records: MappedRecord[], walk: number | null = null) =>
  storeRecords(database.prisma, records, walk)

const messageRow = (id: string) =>
  database.prisma.message.findUniqueOrThrow({ where: { id }, include: { media: true } })

const participantRow = (id: string) => database.prisma.participant.findUniqueOrThrow({ where: { id } })

/** Changes with every write of a row, be the values the same or not. */
async function rowVersions(): Promise<unknown[]> {
  const { rows } = await database.pool.query(
    `SELECT 'message', id, ctid::text, xmin::text FROM kommo.messages
     UNION ALL SELECT 'participant', id, ctid::text, xmin::text FROM kommo.participants
     UNION ALL SELECT 'media', message_id, ctid::text, xmin::text FROM kommo.media ORDER BY 1, 2`,
  )
  return rows
}

/** The row of a message as the service thinks of it; its stamp may lag behind on purpose. */
async function storedMessage(id: string): Promise<Omit<Message, 'observedAt'>> {
  const { media, ...row } = await messageRow(id)
  return {
    id,
    scopeId: row.scopeId,
    conversationId: row.conversationId,
    clientId: row.clientId,
    senderId: row.senderId,
    receiverId: row.receiverId,
    direction: row.direction,
    type: row.type,
    text: row.text,
    sentAt: row.sentAt,
    mediaGroupId: row.mediaGroupId,
    extra: JSON.parse(JSON.stringify(row.extra)),
    media:
      media === null
        ? null
        : {
            type: media.type,
            url: media.url,
            thumbnailUrl: media.thumbnailUrl,
            fileName: media.fileName,
            fileSize: media.fileSize === null ? null : Number(media.fileSize),
            mediaGroupId: media.mediaGroupId,
          },
  }
}

/** The row of a participant as one sighting; the times of its columns are the store's own. */
async function storedParticipant(id: string): Promise<Omit<Participant, 'observedAt'>> {
  const { createdAt: _created, updatedAt: _updated, seenAt: _seen, ...participant } = await participantRow(id)
  return participant
}

describe('a new message', () => {
  test('is stored with every field, its people and its media', async () => {
    const sender = participantSeen({ id: newId(), name: 'Ana', phone: '+1000000', email: 'ana@example.org' })
    const receiver = participantSeen({ id: newId(), clientId: 'c', avatarUrl: 'https://files.example/a' })
    const message = messageSeen({
      id: newId(),
      clientId: 'client-side',
      senderId: sender.id,
      receiverId: receiver.id,
      direction: 'outgoing',
      type: 'picture',
      text: 'caption',
      sentAt: at(-1),
      mediaGroupId: 'album',
      media: mediaSeen({
        type: 'picture',
        fileName: 'a.png',
        fileSize: 5_000_000_000,
        mediaGroupId: 'album',
      }),
      extra: { location: { lat: 1.5 }, 'odd key': null },
    })
    const counts = await store([{ kind: 'mapped', message, participants: [sender, receiver] }], 3)

    expect(counts).toMatchObject({ inserted: 1, updated: 0, unchanged: 0 })
    const { observedAt, ...expected } = message
    expect(await storedMessage(message.id)).toEqual(expected)
    expect(await messageRow(message.id)).toMatchObject({ firstWalk: 3, observedAt })
    expect(await storedParticipant(sender.id)).toEqual(newestOfEach([sender]))
    expect(await storedParticipant(receiver.id)).toEqual(newestOfEach([receiver]))
  })

  test('has a media row only with a link', async () => {
    const id = newId()
    await store([recordSeen({ id, type: 'picture', mediaGroupId: 'album' })])
    expect((await messageRow(id)).media).toBeNull()
  })

  test('that comes twice in one call is one row', async () => {
    const id = newId()
    const counts = await store([
      recordSeen({ id, text: 'newer', observedAt: at(2) }),
      recordSeen({ id, text: 'older', type: 'text', observedAt: at(1) }),
    ])
    expect(counts).toMatchObject({ inserted: 1, updated: 0, unchanged: 0 })
    expect(await messageRow(id)).toMatchObject({ text: 'newer', type: 'text' })
  })

  test('storing none writes nothing', async () => {
    expect(await store([])).toMatchObject({ inserted: 0, updated: 0, unchanged: 0 })
  })
})

describe('a message seen again', () => {
  test('takes the newer value of a field', async () => {
    const id = newId()
    await store([recordSeen({ id, text: 'before', observedAt: at(1) })])
    expect(await store([recordSeen({ id, text: 'after', observedAt: at(2) })])).toMatchObject({ updated: 1 })
    expect((await messageRow(id)).text).toBe('after')
  })

  test('takes from an older sighting only what it does not know', async () => {
    const id = newId()
    await store([recordSeen({ id, text: 'known', extra: { a: 1 }, observedAt: at(2) })])
    await store([recordSeen({ id, text: 'old', type: 'text', extra: { a: 0, b: 2 }, observedAt: at(1) })])
    expect(await messageRow(id)).toMatchObject({
      text: 'known',
      type: 'text',
      extra: { a: 1, b: 2 },
      observedAt: at(2),
    })
  })

  test('loses nothing to a newer sighting that knows less', async () => {
    const id = newId()
    const sender = participantSeen({ id: newId(), name: 'Ana' })
    const known = {
      id,
      senderId: sender.id,
      text: 'known',
      type: 'picture',
      media: mediaSeen({ fileSize: 7 }),
    }
    await store([recordSeen({ ...known, extra: { a: 1 }, observedAt: at(1) }, [sender])])
    const before = await storedMessage(id)
    await store([
      recordSeen({ id, observedAt: at(2) }, [participantSeen({ id: sender.id, observedAt: at(2) })]),
    ])
    expect(await storedMessage(id)).toEqual(before)
    expect((await participantRow(sender.id)).name).toBe('Ana')
  })

  test('merges extra key by key', async () => {
    const id = newId()
    await store([recordSeen({ id, extra: { kept: 1, template: { id: 1, old: true } }, observedAt: at(1) })])
    await store([recordSeen({ id, extra: { template: { id: 2 }, gained: null }, observedAt: at(2) })])
    expect((await messageRow(id)).extra).toEqual({ kept: 1, template: { id: 2 }, gained: null })
  })

  test.each([1, 3])('never turns back from outgoing, seen at %i', async (ms) => {
    const id = newId()
    await store([recordSeen({ id, direction: 'outgoing', observedAt: at(2) })])
    await store([recordSeen({ id, direction: 'incoming', observedAt: at(ms) })])
    expect((await messageRow(id)).direction).toBe('outgoing')
  })

  test('keeps the number of the first walk that saw it', async () => {
    const id = newId()
    await store([recordSeen({ id })], null)
    expect((await messageRow(id)).firstWalk).toBeNull()
    await store([recordSeen({ id })], 2)
    await store([recordSeen({ id })], 3)
    await store([recordSeen({ id })], null)
    expect((await messageRow(id)).firstWalk).toBe(2)
  })

  test('unchanged, writes no row at all', async () => {
    const sender = participantSeen({ id: newId(), name: 'Ana' })
    const page = (ms: number) =>
      ['a', 'b', 'c'].map((suffix) =>
        recordSeen(
          {
            id: `unchanged-${suffix}`,
            senderId: sender.id,
            media: mediaSeen(),
            extra: { a: 1 },
            observedAt: at(ms),
          },
          [sender],
        ),
      )
    await store(page(1), 1)
    const before = await rowVersions()
    expect(await store(page(2), 2)).toMatchObject({ inserted: 0, updated: 0, unchanged: 3 })
    expect(await rowVersions()).toEqual(before)
  })
})

describe('a participant', () => {
  test('keeps a newer name when an old page shows an older one', async () => {
    const id = newId()
    await store([recordSeen({ id: newId() }, [participantSeen({ id, name: 'New name', observedAt: at(5) })])])
    await store([recordSeen({ id: newId() }, [participantSeen({ id, name: 'Old name', observedAt: at(1) })])])
    expect((await participantRow(id)).name).toBe('New name')
  })

  test('keeps a name that a newer message repeated against one from in between', async () => {
    const id = newId()
    for (const [name, ms] of [
      ['Name', 1],
      ['Name', 5],
      ['In between', 3],
    ] as const) {
      await store([recordSeen({ id: newId() }, [participantSeen({ id, name, observedAt: at(ms) })])])
    }
    expect((await participantRow(id)).name).toBe('Name')
  })
})

test('a record without a message id is kept whole, once', async () => {
  const unmapped: MappedRecord = {
    kind: 'unmapped',
    reason: 'no id',
    record: { text: 'x', n: [1, { a: null }] },
  }
  for (const records of [[unmapped, unmapped, recordSeen()], [unmapped], [recordSeen()]]) {
    await storeTogether(database.prisma, records, null, {
      held: Prisma.sql`SELECT`,
      writes: unmappedRecords('conversation-1', records),
    })
  }
  const rows = await database.prisma.unmappedRecord.findMany()
  expect(rows.map(({ record, reason }) => ({ record, reason }))).toEqual([
    { record: unmapped.record, reason: 'no id' },
  ])
})

/** What one sighting knows of a message and its sender; numbers are versions of a value, `null` is nothing known. */
interface Sighting {
  text: number | null
  type: number | null
  clientId: number | null
  extra: Record<string, number>
  media: { url: number; fileName: number | null; fileSize: number | null } | null
  outgoing: boolean
  name: number | null
  phone: number | null
}

function recordOf(id: string, seen: Sighting, ms: number): MappedRecord {
  const named = (field: string, version: number | null) => (version === null ? null : `${field} ${version}`)
  const media: Media | null =
    seen.media &&
    mediaSeen({
      url: `https://files.example/${seen.media.url}`,
      fileName: named('file', seen.media.fileName),
      fileSize: seen.media.fileSize,
    })
  return recordSeen(
    {
      id,
      senderId: id,
      text: named('text', seen.text),
      type: named('type', seen.type),
      clientId: named('client', seen.clientId),
      extra: seen.extra,
      // The mapper gives both the same type.
      media: media && { ...media, type: named('type', seen.type) },
      direction: seen.outgoing ? 'outgoing' : 'incoming',
      observedAt: at(ms),
    },
    [
      participantSeen({
        id,
        name: named('name', seen.name),
        phone: named('phone', seen.phone),
        observedAt: at(ms),
      }),
    ],
  )
}

/** Stores in groups, in this order; looks whether that ends in what the domain's fold from old to new gives. */
async function endsAsFolded(id: string, records: MappedRecord[], groupSize: number): Promise<void> {
  for (let start = 0; start < records.length; start += groupSize)
    await store(records.slice(start, start + groupSize))

  const mapped = records.filter((record) => record.kind === 'mapped')
  mapped.sort((a, b) => a.message.observedAt.getTime() - b.message.observedAt.getTime())
  const [message] = mergeMessages(mapped.map((record) => record.message))
  if (message === undefined) throw new Error('there is no sighting')
  const { observedAt: _, ...expected } = message
  expect(await storedMessage(id)).toEqual(expected)
  expect(await storedParticipant(id)).toEqual(newestOfEach(mapped.flatMap((record) => record.participants)))
}

/** Of each column, the newest value that anybody gave. @param sightings from old to new */
function newestOfEach(sightings: readonly Participant[]): Omit<Participant, 'observedAt'> {
  const newest = (column: 'clientId' | 'name' | 'phone' | 'email' | 'avatarUrl') =>
    sightings.findLast((seen) => seen[column] !== null)?.[column] ?? null
  return {
    id: sightings[0]?.id ?? '',
    scopeId: SCOPE,
    clientId: newest('clientId'),
    name: newest('name'),
    phone: newest('phone'),
    email: newest('email'),
    avatarUrl: newest('avatarUrl'),
  }
}

const version = fc.integer({ min: 0, max: 2 })
const maybe = fc.option(version)
const sparse: fc.Arbitrary<Sighting> = fc.record({
  text: maybe,
  type: maybe,
  clientId: maybe,
  extra: fc.dictionary(fc.constantFrom('a', 'b', 'c'), version),
  media: fc.option(fc.record({ url: version, fileName: maybe, fileSize: maybe })),
  outgoing: fc.boolean(),
  name: maybe,
  phone: maybe,
})
const groupSize = fc.integer({ min: 1, max: 4 })
const runs = { numRuns: 40 }

describe('sightings of one message end in the same row as folded', () => {
  test('from old to new, whatever they leave out, however they are grouped', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(sparse, { minLength: 1, maxLength: 6 }),
        groupSize,
        async (sightings, size) => {
          const id = newId()
          const records = sightings.map((seen, ms) => recordOf(id, withMediaOfItsType(seen), ms))
          await endsAsFolded(id, records, size)
        },
      ),
      runs,
    )
  })

  test('in any order and grouping, when each is complete and no value comes back', async () => {
    const steps = fc.array(fc.array(fc.nat({ max: 1 }), { minLength: 8, maxLength: 8 }), {
      minLength: 1,
      maxLength: 6,
    })
    const order = fc.array(fc.nat(), { minLength: 6, maxLength: 6 })
    await fc.assert(
      fc.asyncProperty(steps, order, groupSize, async (rises, keys, size) => {
        const id = newId()
        const versions = rises[0]?.map(() => 0) ?? []
        const records = rises.map((rise, ms) => {
          rise.forEach((by, field) => (versions[field] = (versions[field] ?? 0) + by))
          const [text = 0, type = 0, clientId = 0, a = 0, url = 0, fileSize = 0, name = 0, phone = 0] =
            versions
          const media = { url, fileName: url, fileSize }
          const seen = { text, type, clientId, extra: { a, b: phone }, media, outgoing: a > 1, name, phone }
          return recordOf(id, seen, ms)
        })
        await endsAsFolded(id, shuffled(records, keys), size)
      }),
      runs,
    )
  })

  test('in any order and grouping, when each tells a part of the same', async () => {
    const same = (value: Sighting): Sighting => ({
      text: value.text && 1,
      type: 1,
      clientId: value.clientId && 1,
      extra: Object.fromEntries(Object.keys(value.extra).map((key) => [key, 1])),
      media: value.media && {
        url: 1,
        fileName: value.media.fileName && 1,
        fileSize: value.media.fileSize && 1,
      },
      outgoing: value.outgoing,
      name: value.name && 1,
      phone: value.phone && 1,
    })
    const order = fc.array(fc.nat(), { minLength: 6, maxLength: 6 })
    const sightings = fc.array(sparse, { minLength: 1, maxLength: 6 })
    await fc.assert(
      fc.asyncProperty(sightings, order, groupSize, async (seen, keys, size) => {
        const id = newId()
        const records = seen.map((sighting, ms) => recordOf(id, zeroAsNothing(same(sighting)), ms))
        await endsAsFolded(id, shuffled(records, keys), size)
      }),
      runs,
    )
  })
})

test('people seen in part, in any order and grouping, end with the newest value of each column', async () => {
  const part = fc.record({ name: maybe, phone: maybe })
  const order = fc.array(fc.nat(), { minLength: 8, maxLength: 8 })
  await fc.assert(
    fc.asyncProperty(
      fc.array(part, { minLength: 1, maxLength: 8 }),
      order,
      groupSize,
      async (parts, keys, size) => {
        const id = newId()
        const sightings = parts.map(({ name, phone }, ms) =>
          participantSeen({
            id,
            name: name === null ? null : `Name ${name}`,
            phone: phone === null ? null : `+${phone}`,
            observedAt: at(ms),
          }),
        )
        const records = shuffled(sightings, keys).map((seen) => recordSeen({ id: newId() }, [seen]))
        for (let start = 0; start < records.length; start += size)
          await store(records.slice(start, start + size))
        expect(await storedParticipant(id)).toEqual(newestOfEach(sightings))
      },
    ),
    runs,
  )
})

/** Kommo gives a media message its type. */
function withMediaOfItsType(seen: Sighting): Sighting {
  return seen.media === null ? { ...seen, type: null } : { ...seen, type: seen.type ?? 0 }
}

function zeroAsNothing(seen: Sighting): Sighting {
  const known = (value: number | null) => value || null
  const { media } = seen
  return {
    ...seen,
    text: known(seen.text),
    clientId: known(seen.clientId),
    name: known(seen.name),
    phone: known(seen.phone),
    media: media && { url: 1, fileName: known(media.fileName), fileSize: known(media.fileSize) },
  }
}

function shuffled<T>(items: readonly T[], keys: readonly number[]): T[] {
  return items
    .map((item, place) => ({ item, key: keys[place] ?? 0 }))
    .toSorted((a, b) => a.key - b.key)
    .map(({ item }) => item)
}

test('concurrent writers of overlapping batches never deadlock', async () => {
  const writers = Array.from({ length: 8 }, async (_writer, writer) => {
    for (let round = 0; round < 30; round += 1) {
      const batch = Array.from({ length: 12 }, (_, place) => {
        const id = `shared-${(place * 7 + writer * 5 + round) % 20}`
        const person = participantSeen({ id, name: `${writer}`, observedAt: at(round) })
        return recordSeen(
          { id, senderId: id, text: `${writer} ${round}`, media: mediaSeen(), observedAt: at(round) },
          [person],
        )
      })
      await store(batch, 1)
    }
  })
  await Promise.all(writers)
  expect(await database.prisma.message.count({ where: { id: { startsWith: 'shared-' } } })).toBe(20)
})
