import type { JsonObject } from '../domain/json.ts'
import { shownPerson, type Person, type SimulatedMessage } from './message.ts'

/** A message as the history writes it (documented §3.6): no keyboard, template, quote, source or conversation id. */
export function historyRecord(message: SimulatedMessage): JsonObject {
  const { quirks, receiver } = message
  const record: JsonObject = { timestamp: Math.floor(message.sentAtMs / 1_000) }
  if (!quirks.secondsOnly) record['msec_timestamp'] = message.sentAtMs
  record['sender'] = personRecord(shownPerson(message.sender, quirks))
  if (receiver !== null) record['receiver'] = personRecord(shownPerson(receiver, quirks))
  record['message'] = messageRecord(message)
  return record
}

/** Staff have an id, a name and an empty avatar; only people outside Kommo have the rest. */
function personRecord(person: Person): JsonObject {
  const record: JsonObject = { id: person.id }
  if (person.clientId !== null) record['client_id'] = person.clientId
  record['name'] = person.name
  record['avatar'] = person.avatar
  if (person.phone !== '') record['phone'] = person.phone
  if (person.email !== '') record['email'] = person.email
  return record
}

function messageRecord(message: SimulatedMessage): JsonObject {
  const { leavesOutEmpty, fileSizeAsText } = message.quirks
  const record: JsonObject = { id: message.id }
  if (message.clientId !== null) record['client_id'] = message.clientId
  record['type'] = message.type
  if (message.text !== '' || !leavesOutEmpty) record['text'] = message.text
  if (message.media !== '' || !leavesOutEmpty) record['media'] = message.media
  if (message.thumbnail !== '' || !leavesOutEmpty) record['thumbnail'] = message.thumbnail
  if (message.fileName !== '' || !leavesOutEmpty) record['file_name'] = message.fileName
  if (message.fileSize !== 0 || !leavesOutEmpty)
    record['file_size'] = fileSizeAsText ? String(message.fileSize) : message.fileSize
  if (message.mediaGroupId !== null) record['media_group_id'] = message.mediaGroupId
  if (message.location !== null) record['location'] = message.location
  if (message.contact !== null) record['contact'] = message.contact
  return record
}
