import type { JsonObject } from '../domain/json.ts'

/** A manager or a bot (no `clientId`), or a client, as Kommo knows them. */
export interface Person {
  id: string
  clientId: string | null
  name: string
  phone: string
  email: string
  avatar: string
}

/** What a message says, apart from who said it when. Empty strings and 0 are what Kommo writes for "nothing". */
export interface Content {
  type: string
  text: string
  media: string
  thumbnail: string
  fileName: string
  /** Bytes. */
  fileSize: number
  mediaGroupId: string | null
  location: { lon: number; lat: number } | null
  contact: { name: string; phone: string } | null
}

/** How the history happens to write a record down: the documented and seen variety of shapes. */
export interface Quirks {
  /** Empty fields are missing in place of `""` and `0`. */
  leavesOutEmpty: boolean
  /** `file_size` comes as `"27107"`. */
  fileSizeAsText: boolean
  /** No `msec_timestamp`, as in the older sample; such a message was sent on a whole second. */
  secondsOnly: boolean
  /** People come without phone and e-mail, staff with an empty name. */
  sparsePeople: boolean
}

export interface SimulatedMessage extends Content {
  /** Chats API side. */
  id: string
  /** Integration side; `null` for what was written inside Kommo. */
  clientId: string | null
  sentAtMs: number
  sender: Person
  /** `null` on what a client wrote. */
  receiver: Person | null
  quirks: Quirks
  /** Fields that only the webhook tells, under Kommo's names; made on demand, since a history page never needs them. */
  webhookOnly: () => WebhookOnly
}

export interface WebhookOnly {
  /** Inside the message: `template`, `markup`, `reply_to`, `forwards`, `post`, `media_duration`. */
  message: JsonObject
  /** Beside the message: `{external_id}`. */
  source: JsonObject | null
}

export const emptyContent: Content = {
  type: 'text',
  text: '',
  media: '',
  thumbnail: '',
  fileName: '',
  fileSize: 0,
  mediaGroupId: null,
  location: null,
  contact: null,
}

export const noQuirks: Quirks = {
  leavesOutEmpty: false,
  fileSizeAsText: false,
  secondsOnly: false,
  sparsePeople: false,
}

/** What one record of the history shows of a person. */
export function shownPerson(person: Person, quirks: Quirks): Person {
  if (!quirks.sparsePeople) return person
  return { ...person, name: person.clientId === null ? '' : person.name, phone: '', email: '' }
}
