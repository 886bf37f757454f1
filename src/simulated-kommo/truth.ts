import type { JsonObject } from '../domain/json.ts'
import { shownPerson, type Person, type SimulatedMessage } from './message.ts'

/** What a table should hold of one message, told without Kommo's field names. Nothing known is `null`. */
export interface MessageTruth {
  id: string
  scopeId: string
  conversationId: string
  clientId: string | null
  senderId: string
  receiverId: string | null
  direction: 'incoming' | 'outgoing'
  type: string
  text: string | null
  sentAtMs: number
  mediaGroupId: string | null
  media: MediaTruth | null
  extra: {
    /** Fields without a column that the history tells: `location`, `contact`. */
    history: JsonObject
    /** Those that only the webhook tells, from inside the message. */
    webhook: JsonObject
  }
  /** Told by the webhook only, beside the message. */
  source: JsonObject | null
}

export interface MediaTruth {
  type: string
  url: string
  thumbnailUrl: string | null
  fileName: string | null
  fileSize: number | null
  mediaGroupId: string | null
}

/** What all records of a conversation's history together tell of a person, the newest word winning. */
export interface PersonTruth {
  id: string
  scopeId: string
  clientId: string | null
  name: string | null
  phone: string | null
  email: string | null
  avatarUrl: string | null
}

export function messageTruth(
  scopeId: string,
  conversationId: string,
  message: SimulatedMessage,
): MessageTruth {
  const onlyWebhook = message.webhookOnly()
  return {
    id: message.id,
    scopeId,
    conversationId,
    clientId: message.clientId,
    senderId: message.sender.id,
    receiverId: message.receiver?.id ?? null,
    direction: message.receiver === null ? 'incoming' : 'outgoing',
    type: message.type,
    text: known(message.text),
    sentAtMs: message.sentAtMs,
    mediaGroupId: message.mediaGroupId,
    media: mediaTruth(message),
    extra: {
      history: {
        ...(message.location === null ? {} : { location: message.location }),
        ...(message.contact === null ? {} : { contact: message.contact }),
      },
      webhook: onlyWebhook.message,
    },
    source: onlyWebhook.source,
  }
}

/** Goes through messages from old to new. */
export function peopleTruth(scopeId: string, messages: Iterable<SimulatedMessage>): PersonTruth[] {
  const people = new Map<string, PersonTruth>()
  for (const { sender, receiver, quirks } of messages) {
    for (const person of receiver === null ? [sender] : [sender, receiver]) {
      const shown = shownPerson(person, quirks)
      people.set(person.id, personTruth(scopeId, shown, people.get(person.id)))
    }
  }
  return [...people.values()]
}

function personTruth(scopeId: string, shown: Person, before: PersonTruth | undefined): PersonTruth {
  return {
    id: shown.id,
    scopeId,
    clientId: shown.clientId ?? before?.clientId ?? null,
    name: known(shown.name) ?? before?.name ?? null,
    phone: known(shown.phone) ?? before?.phone ?? null,
    email: known(shown.email) ?? before?.email ?? null,
    avatarUrl: known(shown.avatar) ?? before?.avatarUrl ?? null,
  }
}

function mediaTruth(message: SimulatedMessage): MediaTruth | null {
  if (message.media === '') return null
  return {
    type: message.type,
    url: message.media,
    thumbnailUrl: known(message.thumbnail),
    fileName: known(message.fileName),
    fileSize: message.fileSize === 0 ? null : message.fileSize,
    mediaGroupId: message.mediaGroupId,
  }
}

function known(text: string): string | null {
  return text === '' ? null : text
}
