import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { MappedRecord, Message, Participant } from '../../../src/domain/message.ts'
import { classifyWebhook } from '../../../src/kommo/classify-webhook.ts'
import { REPLACED_FIELD, mapHistoryRecord, mapWebhookMessage } from '../../../src/kommo/map-message.ts'
import { fieldOf } from '../../../src/kommo/wire.ts'
import { fixture } from '../../helpers/fixture.ts'

const SCOPE = '0b1c2d3e-9999-4a99-8a99-000000000001_0b1c2d3e-1111-4a11-8a11-000000000001'
const CONVERSATION = '0b1c2d3e-4444-4a44-8a44-000000000004'
const MANAGER = '0b1c2d3e-3333-4a33-8a33-000000000003'
const CLIENT = '0b1c2d3e-2222-4a22-8a22-000000000002'
const OBSERVED_AT = new Date('2026-01-02T03:04:05.678Z')

const mapRecord = (record: unknown) =>
  mapHistoryRecord(record, { scopeId: SCOPE, conversationId: CONVERSATION, observedAt: OBSERVED_AT })
const mapWebhook = (payload: unknown, receivedAt = OBSERVED_AT, conversationId = CONVERSATION) =>
  mapWebhookMessage(payload, { scopeId: SCOPE, conversationId, receivedAt })

function expectMapped(record: MappedRecord): { message: Message; participants: Participant[] } {
  if (record.kind !== 'mapped') throw new Error(`unmapped: ${record.reason}`)
  return record
}
const messageOf = (record: MappedRecord) => expectMapped(record).message
const participantsOf = (record: MappedRecord) => expectMapped(record).participants

/** A text message of a client; `fields` are those of its inner `message`. */
const record = (fields: object, around: object = {}) => ({ ...around, message: { id: 'm', ...fields } })

const nobody = { clientId: null, name: null, phone: null, email: null, avatarUrl: null, scopeId: SCOPE }

describe('the samples of the documentation', () => {
  test('an outgoing picture of the history fills every column', () => {
    const [first] = Object.values(fieldOf(fixture('history-page'), 'messages') ?? [])
    const sentAt = new Date(1_670_930_693_280)
    expect(mapRecord(first)).toEqual({
      kind: 'mapped',
      message: {
        id: '0b1c2d3e-5555-4a55-8a55-000000000006',
        scopeId: SCOPE,
        conversationId: CONVERSATION,
        clientId: null,
        senderId: MANAGER,
        receiverId: CLIENT,
        direction: 'outgoing',
        type: 'picture',
        text: 'See the logo',
        sentAt,
        mediaGroupId: '0b1c2d3e-6666-4a66-8a66-000000000001',
        media: {
          type: 'picture',
          url: 'https://amojo.kommo.com/attachments/logo.png',
          thumbnailUrl: 'https://amojo.kommo.com/attachments/logo_320x200.png',
          fileName: 'logo.png',
          fileSize: 27107,
          mediaGroupId: '0b1c2d3e-6666-4a66-8a66-000000000001',
        },
        extra: {},
        observedAt: OBSERVED_AT,
      },
      participants: [
        { ...nobody, id: MANAGER, name: 'Manager One', observedAt: sentAt },
        {
          ...nobody,
          id: CLIENT,
          clientId: 'client-1',
          name: 'Client One',
          phone: '+15550000001',
          email: 'client.one@example.com',
          observedAt: sentAt,
        },
      ],
    })
  })

  test('an incoming location of the history has no receiver, no media, and its location in extra', () => {
    const [, second] = Object.values(fieldOf(fixture('history-page'), 'messages') ?? [])
    expect(messageOf(mapRecord(second))).toMatchObject({
      clientId: 'msg-1',
      senderId: CLIENT,
      receiverId: null,
      direction: 'incoming',
      type: 'location',
      text: null,
      media: null,
      extra: { location: { lon: -73.98, lat: 40.75 } },
    })
  })

  test('a plain text webhook leaves nothing over', () => {
    expect(messageOf(mapWebhook(fixture('webhook-text')))).toEqual({
      id: '0b1c2d3e-5555-4a55-8a55-000000000005',
      scopeId: SCOPE,
      conversationId: CONVERSATION,
      clientId: null,
      senderId: MANAGER,
      receiverId: CLIENT,
      direction: 'outgoing',
      type: 'text',
      text: 'Hello',
      sentAt: new Date(1_700_000_000_123),
      mediaGroupId: null,
      media: null,
      extra: {},
      observedAt: new Date(1_700_000_001_000),
    })
  })

  test.each([
    ['webhook-picture', ['markup', 'source', 'template']],
    ['webhook-voice', []],
    ['webhook-list-message', ['markup']],
    ['webhook-forward', ['forwards']],
    ['webhook-comment-reply', ['post', 'reply_to']],
  ])('%s keeps in extra what has no column: %j', (name, names) => {
    const payload = fixture(name)
    const { extra } = messageOf(mapWebhook(payload))
    const envelope = fieldOf(payload, 'message')
    expect(Object.keys(extra).toSorted()).toEqual(names)
    for (const field of names) {
      expect(extra[field]).toEqual(fieldOf(fieldOf(envelope, 'message'), field) ?? fieldOf(envelope, field))
    }
  })

  test('a message written first names the number that was chosen', () => {
    const mapped = mapWebhook(
      fixture('webhook-write-first'),
      OBSERVED_AT,
      '0b1c2d3e-4444-4a44-8a44-000000000014',
    )
    expect(participantsOf(mapped).map(({ phone }) => phone)).toEqual([null, '15550000002'])
    expect(messageOf(mapped).extra).toEqual({ source: { external_id: '15550009999' } })
  })
})

describe('the direction', () => {
  test.each([
    ['outgoing', { id: 'r' }],
    ['outgoing', { phone: '15550000001' }],
    ['incoming', undefined],
    ['incoming', null],
    ['incoming', {}],
    ['incoming', { id: '', name: null }],
    ['incoming', 'client-1'],
    ['incoming', ['r']],
  ] as const)('is %s for the receiver %j', (direction, receiver) => {
    expect(messageOf(mapRecord(record({}, { receiver }))).direction).toBe(direction)
  })
})

const at = (seconds: number) => new Date(seconds * 1000)

/** When the sender of a record was observed. */
const seen = (around: object) =>
  participantsOf(mapRecord(record({}, { sender: { id: 's' }, ...around }))).map(
    ({ observedAt }) => observedAt,
  )

describe('the time of a message', () => {
  test.each<[string, object, Date | null, object]>([
    [
      'milliseconds first',
      { timestamp: 1_600_000_000, msec_timestamp: 1_600_000_000_999 },
      new Date(1_600_000_000_999),
      {},
    ],
    ['else seconds', { timestamp: 1_600_000_000 }, at(1_600_000_000), {}],
    ['numeric strings', { msec_timestamp: '1600000000123' }, new Date(1_600_000_000_123), {}],
    ['seconds as a string', { timestamp: '1600000000', msec_timestamp: '' }, at(1_600_000_000), {}],
    ['nothing', {}, null, {}],
    ['zero', { timestamp: 0 }, null, { timestamp: 0 }],
    ['before 1970', { timestamp: -5 }, null, { timestamp: -5 }],
    ['milliseconds for seconds', { timestamp: 1_600_000_000_000 }, null, { timestamp: 1_600_000_000_000 }],
    [
      'words',
      { msec_timestamp: 'yesterday', timestamp: 1_600_000_000 },
      at(1_600_000_000),
      { msec_timestamp: 'yesterday' },
    ],
    ['fractions', { timestamp: 1.5 }, null, { timestamp: 1.5 }],
    [
      'two times that differ',
      { timestamp: 5, msec_timestamp: 1_600_000_000_123 },
      new Date(1_600_000_000_123),
      { timestamp: 5 },
    ],
  ])('comes from %s', (_name, around, sentAt, extra) => {
    expect(messageOf(mapRecord(record({}, around)))).toMatchObject({ sentAt, extra })
    expect(messageOf(mapRecord(record({}, around))).extra).toEqual(extra)
  })

  test("is the webhook's time if the message has none", () => {
    const { sentAt, observedAt, extra } = messageOf(mapWebhook({ time: 1_600_000_000, message: record({}) }))
    expect({ sentAt, observedAt, extra }).toEqual({
      sentAt: at(1_600_000_000),
      observedAt: at(1_600_000_000),
      extra: {},
    })
  })

  test('a webhook is never observed later than it was received', () => {
    const time = OBSERVED_AT.getTime() / 1000 + 60
    const payload = { time: Math.floor(time), message: record({}, { timestamp: 1_600_000_000 }) }
    expect(messageOf(mapWebhook(payload))).toMatchObject({
      observedAt: OBSERVED_AT,
      extra: {},
    })
    expect(messageOf(mapWebhook({ time: 'soon', message: record({}) }))).toMatchObject({
      observedAt: OBSERVED_AT,
      sentAt: null,
      extra: { time: 'soon' },
    })
  })

  test('participants are as old as the message that shows them', () => {
    expect(seen({ timestamp: 1_600_000_000 })).toEqual([at(1_600_000_000)])
    expect(seen({})).toEqual([OBSERVED_AT])
    expect(seen({ timestamp: 4_000_000_000 })).toEqual([OBSERVED_AT])
  })
})

describe('media', () => {
  const media = 'https://example.com/a.jpg'

  test.each([
    [27107, 27107, {}],
    ['27107', 27107, {}],
    [0, null, {}],
    ['0', null, {}],
    [null, null, {}],
    [-1, null, { file_size: -1 }],
    [1.5, null, { file_size: 1.5 }],
    ['27 KB', null, { file_size: '27 KB' }],
    ['99999999999999999999', null, { file_size: '99999999999999999999' }],
  ])('a file size of %j is %j', (size, fileSize, extra) => {
    const message = messageOf(mapRecord(record({ type: 'file', media, file_size: size })))
    expect(message.media).toEqual({
      type: 'file',
      url: media,
      thumbnailUrl: null,
      fileName: null,
      fileSize,
      mediaGroupId: null,
    })
    expect(message.extra).toEqual(extra)
  })

  test('without a link there is no media, and what is told of the file stays', () => {
    const told = { thumbnail: 'https://example.com/t.jpg', file_name: 'a.jpg', file_size: 5 }
    expect(messageOf(mapRecord(record({ media: '', ...told })))).toMatchObject({ media: null, extra: told })
    expect(
      messageOf(mapRecord(record({ media: '', thumbnail: '', file_name: '', file_size: 0 }))).extra,
    ).toEqual({})
  })

  test('a link that is no text stays', () => {
    expect(messageOf(mapRecord(record({ media: { url: media } })))).toMatchObject({
      media: null,
      extra: { media: { url: media } },
    })
  })
})

describe('participants', () => {
  test('one without a usable id stays whole in extra', () => {
    const mapped = mapRecord(record({}, { sender: { id: '', name: 'Bot' }, receiver: { id: 7, phone: '1' } }))
    expect(mapped).toMatchObject({
      message: { senderId: null, receiverId: null, direction: 'outgoing' },
      participants: [],
    })
    expect(messageOf(mapped).extra).toEqual({ sender: { name: 'Bot' }, receiver: { id: 7, phone: '1' } })
  })

  test('unknown fields of one stay under their role', () => {
    const mapped = mapRecord(
      record({}, { sender: { id: 's', name: 'A', avatar: 'https://example.com/a', rank: 3, phone: 5 } }),
    )
    expect(participantsOf(mapped)).toMatchObject([
      { id: 's', name: 'A', avatarUrl: 'https://example.com/a', phone: null },
    ])
    expect(messageOf(mapped).extra).toEqual({ sender: { rank: 3, phone: 5 } })
  })

  test('sender and receiver of one id are one entry, and what contradicts stays', () => {
    const mapped = mapRecord(
      record({}, { sender: { id: 'p', name: 'A' }, receiver: { id: 'p', name: 'B', phone: '1' } }),
    )
    expect(participantsOf(mapped)).toMatchObject([{ id: 'p', name: 'A', phone: '1' }])
    expect(messageOf(mapped)).toMatchObject({
      senderId: 'p',
      receiverId: 'p',
      extra: { receiver: { name: 'B' } },
    })
  })

  test('one that is no object stays', () => {
    expect(messageOf(mapRecord(record({}, { sender: 'client-1', receiver: [1] }))).extra).toEqual({
      sender: 'client-1',
      receiver: [1],
    })
  })
})

describe('extra', () => {
  test('keeps unknown types and fields, and fields of the wrong type, under their own names', () => {
    const fields = {
      type: 'hologram',
      text: 5,
      media_group_id: ['g'],
      client_id: 'x'.repeat(1025),
      new_thing: { a: [''] },
    }
    const message = messageOf(mapRecord(record(fields)))
    expect(message).toMatchObject({ type: 'hologram', text: null, mediaGroupId: null, clientId: null })
    expect(message.extra).toEqual({
      text: 5,
      media_group_id: ['g'],
      client_id: 'x'.repeat(1025),
      new_thing: { a: [''] },
    })
  })

  test('counts empty strings and null as absent, but not inside of what it keeps', () => {
    const fields = { tag: '', markup: { mode: '', list: null }, template: null, flag: false, count: 0 }
    expect(messageOf(mapRecord(record(fields, { source: '' }))).extra).toEqual({
      markup: { mode: '', list: null },
      flag: false,
      count: 0,
    })
  })

  test('keeps what clashes under the name of the outer object', () => {
    const payload = {
      source: 'body',
      same: 3,
      message: record({ source: 'own', same: 1 }, { source: 'around', same: 2, x: 4 }),
    }
    expect(messageOf(mapWebhook(payload)).extra).toEqual({
      source: 'own',
      same: 1,
      x: 4,
      envelope: { source: 'around', same: 2 },
      webhook: { source: 'body', same: 3 },
    })
  })

  test('keeps ids of the webhook that say something else than the columns', () => {
    const payload = {
      account_id: 'other',
      message: record({}, { conversation: { id: 'other', client_id: 7, topic: 'x' } }),
    }
    expect(messageOf(mapWebhook(payload)).extra).toEqual({
      account_id: 'other',
      conversation: { id: 'other', client_id: 7, topic: 'x' },
    })
  })

  test('tells where text was replaced, in the names of the history', () => {
    const fields = { text: 'a\0b', template: { content: '\uD83D' }, client_id: 'c\0' }
    const replaced = ['message.text', 'message.template.content', 'message.client_id']
    for (const mapped of [mapRecord(record(fields)), mapWebhook({ message: record(fields) })]) {
      expect(messageOf(mapped)).toMatchObject({ text: 'a\uFFFDb', clientId: null })
      expect(messageOf(mapped).extra).toEqual({
        template: { content: '\uFFFD' },
        client_id: 'c\uFFFD',
        [REPLACED_FIELD]: replaced,
      })
    }
  })

  test('keeps a field named __proto__ and changes no prototype', () => {
    const { extra } = messageOf(
      mapRecord(JSON.parse('{"__proto__":{"a":1},"message":{"id":"m","__proto__":{"b":2}}}')),
    )
    expect(JSON.stringify(extra)).toBe('{"__proto__":{"b":2},"envelope":{"__proto__":{"a":1}}}')
    expect(Object.getPrototypeOf(extra)).toBe(Object.prototype)
  })
})

describe('a record that has no usable message id', () => {
  test.each([
    ['no object', 'x', { record: 'x' }],
    ['null', null, { record: null }],
    ['a list', [1], { record: [1] }],
    ['no message', { timestamp: 1 }, { timestamp: 1 }],
    ['no id', { message: { text: 'a' } }, { message: { text: 'a' } }],
    ['an empty id', { message: { id: '' } }, { message: { id: '' } }],
    ['a number as id', { message: { id: 7 } }, { message: { id: 7 } }],
    [
      'NUL in its id',
      { message: { id: 'a\0' } },
      { message: { id: 'a\uFFFD' }, [REPLACED_FIELD]: ['message.id'] },
    ],
  ])('is kept whole: %s', (_name, given, kept) => {
    expect(mapRecord(given)).toEqual({ kind: 'unmapped', reason: expect.any(String), record: kept })
  })

  test.each([[null], [{}], [{ message: 'x' }], [{ message: {} }], [{ message: { message: { id: '' } } }]])(
    'is unmapped as a webhook too: %j',
    (payload) => {
      expect(mapWebhook(payload)).toMatchObject({ kind: 'unmapped' })
    },
  )
})

describe('whatever comes in', () => {
  const json = fc.jsonValue({ stringUnit: 'binary', maxDepth: 4 })
  const base = fc.constantFrom('webhook-text', 'webhook-picture', 'webhook-comment-reply', 'webhook-forward')
  const damage = fc.array(
    fc.tuple(fc.nat(), fc.constantFrom('replace', 'remove', 'add'), fc.string(), json),
    { maxLength: 6 },
  )
  const damaged = fc
    .tuple(base, damage)
    .map(([name, steps]) => JSON.parse(JSON.stringify(steps.reduce(damageOnce, fixture(name)))))

  test('arbitrary JSON is mapped without a throw, storably, and no leaf is lost', () => {
    fc.assert(
      fc.property(json, json, (outer, inner) => {
        for (const value of [
          outer,
          { message: outer },
          { message: { id: 'm', x: inner }, sender: outer, y: inner },
        ]) {
          expect(faultsOf(value, mapRecord(value))).toEqual([])
          expect(faultsOf({ message: value }, mapWebhook({ message: value }))).toEqual([])
        }
      }),
    )
  })

  test('damaged records are mapped without a throw, storably, and no leaf is lost', () => {
    fc.assert(
      fc.property(damaged, (payload) => {
        expect(faultsOf(payload, mapWebhook(payload))).toEqual([])
        const inner = fieldOf(payload, 'message')
        expect(faultsOf(inner, mapRecord(inner))).toEqual([])
      }),
      { numRuns: 500 },
    )
  })

  test('nothing that JSON cannot say makes it throw', () => {
    fc.assert(
      fc.property(fc.anything(), (value) => {
        expect(mapRecord(value)).toHaveProperty('kind')
        expect(mapWebhook(value)).toHaveProperty('kind')
      }),
    )
  })
})

/** What is wrong with a mapped record: unstorable or oversized text, and leaves of the input that it lost. */
function faultsOf(given: unknown, mapped: MappedRecord): unknown[] {
  const text = JSON.stringify(mapped)
  // The conversation's client id is told by the other reader of the same webhook.
  const { conversationClientId } = classifyWebhook(Buffer.from(JSON.stringify(given) ?? 'null'))
  const kept = leavesOf([JSON.parse(text), conversationClientId, SCOPE.split('_')])
  return [
    ...(text.match(/\\u0000|\\ud[89a-f]/) ?? []),
    ...indexedTexts(mapped).filter((value) => Buffer.byteLength(value ?? '') > 1024),
    ...[...leavesOf(given)].filter((leaf) => !kept.has(leaf)),
  ]
}

function indexedTexts(mapped: MappedRecord): (string | null)[] {
  if (mapped.kind === 'unmapped') return []
  const { id, clientId, senderId, receiverId, type, mediaGroupId } = mapped.message
  const ofParticipants = mapped.participants.flatMap((participant) => [participant.id, participant.clientId])
  return [id, clientId, senderId, receiverId, type, mediaGroupId, ...ofParticipants]
}

/** Changes, removes or adds one field somewhere in a JSON value. */
function damageOnce(value: unknown, [position, how, name, put]: [number, string, string, unknown]): unknown {
  const copy: unknown = structuredClone(value)
  const holders: object[] = []
  const collect = (item: unknown) => {
    if (typeof item !== 'object' || item === null) return
    holders.push(item)
    Object.values(item).forEach(collect)
  }
  collect(copy)
  const holder = holders[position % Math.max(holders.length, 1)]
  if (holder === undefined) return copy
  const keys = Object.keys(holder)
  const key = how === 'add' ? `new ${name}` : (keys[(position >> 4) % Math.max(keys.length, 1)] ?? 'new')
  if (how === 'remove') Reflect.deleteProperty(holder, key)
  else Reflect.set(holder, key, put)
  return copy
}

/**
 * The values at the ends of a JSON value, comparable between input and output: unstorable text replaced, times in
 * seconds, numbers as text. Empty values and zeros may be left out; what nests too deeply is cut by another rule.
 */
function leavesOf(value: unknown): Set<string> {
  const leaves = new Set<string>()
  const collect = (item: unknown) => {
    if (typeof item === 'object' && item !== null) Object.values(item).forEach(collect)
    else if (item !== null && item !== undefined && item !== '' && item !== 0) {
      const text = (typeof item === 'string' ? item : JSON.stringify(item)).replace(
        /\0|\p{Surrogate}/gu,
        '\uFFFD',
      )
      leaves.add(text)
      const ms = /^\d{4}-\d\d-\d\dT.*Z$/.test(text) ? Date.parse(text) : Number.NaN
      if (!Number.isNaN(ms)) leaves.add(String(ms)).add(String(Math.floor(ms / 1000)))
    }
  }
  collect(value)
  return leaves
}
