import type { JsonObject } from './json.ts'

/** `outgoing` when Kommo names a receiver, else `incoming` (inferred: receivers are absent on what clients write). */
export type Direction = 'incoming' | 'outgoing'

/** A message as the service thinks of it: Kommo's ids, absent and empty values as `null`. */
export interface Message {
  /** Message id, Chats API side: the same in the webhook and in the history. */
  id: string
  scopeId: string
  conversationId: string
  clientId: string | null
  senderId: string | null
  receiverId: string | null
  direction: Direction
  type: string | null
  text: string | null
  sentAt: Date | null
  mediaGroupId: string | null
  media: Media | null
  /** Every field of the message that has no column, under Kommo's own names. */
  extra: JsonObject
  /** When this state was true in Kommo: the moment of the history request, or the webhook's `time`. */
  observedAt: Date
}

/** Present when Kommo gave a media link. */
export interface Media {
  type: string | null
  url: string
  thumbnailUrl: string | null
  fileName: string | null
  /** Bytes. Kommo's 0 means unknown: `null`. */
  fileSize: number | null
  mediaGroupId: string | null
}

/** A manager, a bot or a client, as one message shows them: often only in part. */
export interface Participant {
  id: string
  scopeId: string
  clientId: string | null
  name: string | null
  phone: string | null
  email: string | null
  avatarUrl: string | null
  /** The time of the message that showed them: an old page must not roll a newer name back. */
  observedAt: Date
}

/** What one record of Kommo becomes; `unmapped` when it has no usable message id. */
export type MappedRecord =
  | { kind: 'mapped'; message: Message; participants: Participant[] }
  | { kind: 'unmapped'; reason: string; record: JsonObject }
