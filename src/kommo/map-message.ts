import type { Json, JsonObject } from '../domain/json.ts'
import type { Direction, MappedRecord, Media, Message, Participant } from '../domain/message.ts'
import { parseScopeId } from '../domain/scope.ts'
import { makeStorable } from './storable.ts'
import {
  type Fields,
  type Reader,
  fieldsOf,
  isEmpty,
  isObject,
  readId,
  readMilliseconds,
  readObject,
  readSeconds,
  readText,
  readWholeNumber,
} from './wire.ts'

/** The field of `extra` that lists where text was replaced that Postgres cannot hold, in the names of the history. */
export const REPLACED_FIELD = '$replaced'

export interface HistoryContext {
  scopeId: string
  conversationId: string
  /** The moment of the request. */
  observedAt: Date
}

export interface WebhookContext {
  scopeId: string
  conversationId: string
  receivedAt: Date
}

/**
 * Maps one record of the history. Fields are taken into columns; whatever remains, because it is unknown or of an
 * unexpected shape, stays in `extra` under Kommo's own name, so that nothing is lost.
 */
export function mapHistoryRecord(record: unknown, context: HistoryContext): MappedRecord {
  const { value, replaced } = makeStorable(record)
  if (!isObject(value)) return unmapped('the record is not an object', value, replaced)
  return mapEnvelope(value, { ...context, record: value, replaced, fallbackSentAt: null, body: null })
}

/** Maps the parsed body of a message webhook: the record that the history would hold, and more, sits in its `message`. */
export function mapWebhookMessage(payload: unknown, context: WebhookContext): MappedRecord {
  const { scopeId, conversationId, receivedAt } = context
  const { value, replaced } = makeStorable(payload)
  if (!isObject(value)) return unmapped('the webhook is not an object', value, replaced)

  const body = fieldsOf(value)
  const envelope = body.take('message', readObject)
  if (envelope === null) return unmapped('the webhook has no message', value, replaced)
  body.take('account_id', equalTo(parseScopeId(scopeId).accountId))
  const time = body.take('time', readSeconds)

  return mapEnvelope(envelope, {
    scopeId,
    conversationId,
    // A clock of Kommo's that is ahead must not make this win over what is read later.
    observedAt: earlier(time ?? receivedAt, receivedAt),
    record: value,
    // What a webhook calls `message` is what the history calls a record.
    replaced: replaced.map((path) => path.replace(/^message\./, '')),
    fallbackSentAt: time,
    body,
  })
}

interface EnvelopeContext extends HistoryContext {
  /** The whole record, for when it cannot be mapped. */
  record: JsonObject
  replaced: readonly string[]
  /** For a message without a time of its own. */
  fallbackSentAt: Date | null
  /** What surrounds the envelope, if anything does. */
  body: Fields | null
}

function mapEnvelope(envelopeObject: JsonObject, context: EnvelopeContext): MappedRecord {
  const { scopeId, conversationId, observedAt, record, replaced, fallbackSentAt, body } = context
  const envelope = fieldsOf(envelopeObject)
  const messageObject = envelope.take('message', readObject)
  if (messageObject === null) return unmapped('the record has no message', record, replaced)
  const fields = fieldsOf(messageObject)
  const id = fields.take('id', readId)
  if (id === null) return unmapped('the message has no usable id', record, replaced)

  const sentAt = takeSentAt(envelope) ?? fallbackSentAt
  const conversation = takeConversation(envelope, conversationId, body !== null)
  const direction = directionOf(envelopeObject['receiver'])
  const seen = { scopeId, observedAt: earlier(sentAt ?? observedAt, observedAt) }
  const sender = takePerson(envelope, 'sender', seen)
  const receiver = takePerson(envelope, 'receiver', seen, sender.participant)

  const type = fields.take('type', readId)
  const mediaGroupId = fields.take('media_group_id', readId)
  const message: Message = {
    id,
    scopeId,
    conversationId,
    clientId: fields.take('client_id', readId),
    senderId: sender.participant?.id ?? null,
    receiverId: receiver.participant?.id ?? null,
    direction,
    type,
    text: fields.take('text', readText),
    sentAt,
    mediaGroupId,
    media: takeMedia(fields, type, mediaGroupId),
    extra: {},
    observedAt,
  }
  const around = { ...envelope.rest(), ...conversation, ...sender.left, ...receiver.left }
  message.extra = mergeLeftovers(fields.rest(), { envelope: around, webhook: body?.rest() ?? {} }, replaced)

  return {
    kind: 'mapped',
    message,
    participants: mergeParticipants(sender.participant, receiver.participant),
  }
}

function unmapped(reason: string, value: Json, replaced: readonly string[]): MappedRecord {
  const record = isObject(value) ? value : { record: value }
  return { kind: 'unmapped', reason, record: markReplaced(record, replaced) }
}

/** Inferred: the history names a receiver on what goes out only; a `client_id` may also belong to a bot. */
function directionOf(receiver: Json | undefined): Direction {
  const isNamed = isObject(receiver) && !Object.values(receiver).every(isEmpty)
  return isNamed ? 'outgoing' : 'incoming'
}

/** `timestamp` says the same in whole seconds; where it does not, it stays. */
function takeSentAt(envelope: Fields): Date | null {
  const precise = envelope.take('msec_timestamp', readMilliseconds)
  const rough = envelope.take('timestamp', (value) => {
    const date = readSeconds(value)
    return precise === null || date?.getTime() === Math.floor(precise.getTime() / 1000) * 1000 ? date : null
  })
  return precise ?? rough
}

/** Only webhooks name the conversation; its `client_id` then has a column there (`classifyWebhook` reads it). */
function takeConversation(envelope: Fields, conversationId: string, isWebhook: boolean): JsonObject {
  const object = envelope.take('conversation', readObject)
  if (object === null) return {}
  const fields = fieldsOf(object)
  const id = fields.take('id', equalTo(conversationId))
  if (isWebhook && id !== null) fields.take('client_id', readId)
  return underName('conversation', fields.rest())
}

interface Person {
  participant: Participant | null
  /** What the participant has no column for, under the person's role; everything if there is no usable id. */
  left: JsonObject
}

/**
 * @param known the same message's other person. If it is the same one, their rows become one, so a field that
 *   contradicts it stays.
 */
function takePerson(
  envelope: Fields,
  role: 'sender' | 'receiver',
  seen: { scopeId: string; observedAt: Date },
  known: Participant | null = null,
): Person {
  const object = envelope.take(role, readObject)
  if (object === null) return { participant: null, left: {} }
  const fields = fieldsOf(object)
  const id = fields.take('id', readId)
  if (id === null) return { participant: null, left: underName(role, fields.rest()) }

  const same = known?.id === id ? known : null
  const participant: Participant = {
    id,
    clientId: fields.take('client_id', unlessOther(readId, same?.clientId)),
    name: fields.take('name', unlessOther(readText, same?.name)),
    phone: fields.take('phone', unlessOther(readText, same?.phone)),
    email: fields.take('email', unlessOther(readText, same?.email)),
    avatarUrl: fields.take('avatar', unlessOther(readText, same?.avatarUrl)),
    ...seen,
  }
  return { participant, left: underName(role, fields.rest()) }
}

function mergeParticipants(sender: Participant | null, receiver: Participant | null): Participant[] {
  if (sender === null || receiver === null || sender.id !== receiver.id) {
    return [sender, receiver].filter((participant) => participant !== null)
  }
  return [
    {
      ...sender,
      clientId: sender.clientId ?? receiver.clientId,
      name: sender.name ?? receiver.name,
      phone: sender.phone ?? receiver.phone,
      email: sender.email ?? receiver.email,
      avatarUrl: sender.avatarUrl ?? receiver.avatarUrl,
    },
  ]
}

/** Without a link there is no row that could hold the other fields, so they stay. */
function takeMedia(fields: Fields, type: string | null, mediaGroupId: string | null): Media | null {
  // Kommo writes 0 for what it does not know (documented), as it writes empty strings.
  fields.take('file_size', (value) => (readWholeNumber(value) === 0 ? true : null))
  const url = fields.take('media', readText)
  if (url === null) return null
  return {
    type,
    url,
    thumbnailUrl: fields.take('thumbnail', readText),
    fileName: fields.take('file_name', readText),
    fileSize: fields.take('file_size', readWholeNumber),
    mediaGroupId,
  }
}

/** The message's own fields keep their names; where an outer object has one of the same name, it goes under its own. */
function mergeLeftovers(
  own: JsonObject,
  outer: { envelope: JsonObject; webhook: JsonObject },
  replaced: readonly string[],
): JsonObject {
  let extra = own
  for (const [layer, object] of Object.entries(outer)) {
    const entries = Object.entries(object)
    if (entries.length === 0) continue
    const clashing = new Map(entries.filter(([name]) => Object.hasOwn(extra, name)))
    const merged = { ...extra, ...Object.fromEntries(entries.filter(([name]) => !clashing.has(name))) }
    extra = clashing.size === 0 ? merged : addField(merged, layer, Object.fromEntries(clashing))
  }
  return markReplaced(extra, replaced)
}

function markReplaced(record: JsonObject, replaced: readonly string[]): JsonObject {
  return replaced.length === 0 ? record : addField(record, REPLACED_FIELD, [...replaced])
}

/** Kommo's own field of that name, should there ever be one, keeps it. */
function addField(object: JsonObject, name: string, value: Json): JsonObject {
  let free = name
  while (Object.hasOwn(object, free)) free += '_'
  return { ...object, [free]: value }
}

function underName(name: string, object: JsonObject): JsonObject {
  return Object.keys(object).length === 0 ? {} : { [name]: object }
}

function equalTo(expected: string): Reader<string> {
  return (value) => (value === expected ? expected : null)
}

function unlessOther(read: Reader<string>, known: string | null | undefined): Reader<string> {
  return (value) => {
    const text = read(value)
    return known === null || known === undefined || text === known ? text : null
  }
}

function earlier(a: Date, b: Date): Date {
  return a < b ? a : b
}
