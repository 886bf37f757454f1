import type { Media, Message } from './message.ts'

/**
 * Folds several sightings of the same message into one, by the rule that the statement in `store` follows too:
 * the newer observation wins a field, an absent one never wins, `extra` merges key by key.
 */
export function mergeMessages(sightings: readonly Message[]): Message[] {
  const byId = new Map<string, Message>()
  for (const sighting of sightings) {
    const known = byId.get(sighting.id)
    if (known === undefined) byId.set(sighting.id, sighting)
    else if (sighting.observedAt >= known.observedAt) byId.set(sighting.id, mergeMessage(known, sighting))
    else byId.set(sighting.id, mergeMessage(sighting, known))
  }
  return [...byId.values()]
}

function mergeMessage(older: Message, newer: Message): Message {
  return {
    ...newer,
    clientId: newer.clientId ?? older.clientId,
    senderId: newer.senderId ?? older.senderId,
    receiverId: newer.receiverId ?? older.receiverId,
    // Once Kommo has named a receiver, a sighting without one is only less complete.
    direction: older.direction === 'outgoing' ? 'outgoing' : newer.direction,
    type: newer.type ?? older.type,
    text: newer.text ?? older.text,
    sentAt: newer.sentAt ?? older.sentAt,
    mediaGroupId: newer.mediaGroupId ?? older.mediaGroupId,
    media: mergeMedia(older.media, newer.media),
    extra: { ...older.extra, ...newer.extra },
  }
}

function mergeMedia(older: Media | null, newer: Media | null): Media | null {
  if (older === null || newer === null) return newer ?? older
  return {
    type: newer.type ?? older.type,
    url: newer.url,
    thumbnailUrl: newer.thumbnailUrl ?? older.thumbnailUrl,
    fileName: newer.fileName ?? older.fileName,
    fileSize: newer.fileSize ?? older.fileSize,
    mediaGroupId: newer.mediaGroupId ?? older.mediaGroupId,
  }
}
