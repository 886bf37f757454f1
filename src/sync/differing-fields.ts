import { isDeepStrictEqual } from 'node:util'
import type { Media, Message } from '../domain/message.ts'

type Field = string | number | Date | null

/**
 * Columns in which a stored message is not what the history says; names only, never contents. What the history
 * leaves out is no difference: a webhook may have told it.
 */
export function differingFields(seen: Message, stored: Message): string[] {
  const differing = [
    ...unequal(columnsOf(seen), columnsOf(stored)),
    // The history names no receiver on what a webhook may have named one for.
    ...(seen.direction === 'outgoing' && stored.direction === 'incoming' ? ['direction'] : []),
  ]
  if (seen.media !== null) {
    differing.push(
      ...(stored.media === null
        ? ['media']
        : unequal(mediaColumnsOf(seen.media), mediaColumnsOf(stored.media))),
    )
  }
  for (const [name, value] of Object.entries(seen.extra)) {
    // Through JSON, as it is stored: -0 becomes 0.
    const asStored: unknown = JSON.parse(JSON.stringify(value))
    const known: unknown = Object.hasOwn(stored.extra, name) ? stored.extra[name] : undefined
    if (!isDeepStrictEqual(asStored, known)) differing.push(`extra.${name}`)
  }
  return differing
}

function unequal(seen: Record<string, Field>, stored: Record<string, Field>): string[] {
  return Object.keys(seen).filter((name) => {
    const value = seen[name] ?? null
    return value !== null && !isDeepStrictEqual(value, stored[name])
  })
}

function columnsOf(m: Message): Record<string, Field> {
  return {
    scope_id: m.scopeId,
    conversation_id: m.conversationId,
    client_id: m.clientId,
    sender_id: m.senderId,
    receiver_id: m.receiverId,
    type: m.type,
    text: m.text,
    sent_at: m.sentAt,
    media_group_id: m.mediaGroupId,
  }
}

function mediaColumnsOf(d: Media): Record<string, Field> {
  return {
    'media.type': d.type,
    'media.url': d.url,
    'media.thumbnail_url': d.thumbnailUrl,
    'media.file_name': d.fileName,
    'media.file_size': d.fileSize,
    'media.media_group_id': d.mediaGroupId,
  }
}
