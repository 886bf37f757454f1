import type { MappedRecord, Media, Message, Participant } from '../../src/domain/message.ts'

export const SCOPE = 'c8a1f3d2-5b7e-4c69-9a40-7d21e6b0f354_11111111-2222-4333-8444-555555555555'

/** A moment, some milliseconds after an invented noon. */
export function at(ms: number): Date {
  return new Date(Date.parse('2026-05-01T12:00:00.000Z') + ms)
}

/** A message of which nothing is known but what is named. */
export function messageSeen(known: Partial<Message> = {}): Message {
  return {
    id: 'message-1',
    scopeId: SCOPE,
    conversationId: 'conversation-1',
    clientId: null,
    senderId: null,
    receiverId: null,
    direction: 'incoming',
    type: null,
    text: null,
    sentAt: null,
    mediaGroupId: null,
    media: null,
    extra: {},
    observedAt: at(0),
    ...known,
  }
}

export function mediaSeen(known: Partial<Media> = {}): Media {
  return {
    type: null,
    url: 'https://files.example/1',
    thumbnailUrl: null,
    fileName: null,
    fileSize: null,
    mediaGroupId: null,
    ...known,
  }
}

export function participantSeen(known: Partial<Participant> = {}): Participant {
  return {
    id: 'participant-1',
    scopeId: SCOPE,
    clientId: null,
    name: null,
    phone: null,
    email: null,
    avatarUrl: null,
    observedAt: at(0),
    ...known,
  }
}

/** What the mapper makes of a record. */
export function recordSeen(message: Partial<Message> = {}, participants: Participant[] = []): MappedRecord {
  return { kind: 'mapped', message: messageSeen(message), participants }
}
