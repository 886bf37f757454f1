import type { JsonObject } from '../domain/json.ts'
import type { Person, SimulatedMessage } from './message.ts'

/** The chat that a webhook speaks of. */
export interface WebhookContext {
  accountId: string
  conversation: { id: string; clientId: string | null }
  /** When the webhook is made. */
  now: Date
}

/** Message, also "write first" (a conversation without an integration side) and the reply to a comment (`post`). */
export function messageBody(context: WebhookContext, message: SimulatedMessage): JsonObject {
  const { source, message: onlyWebhook } = message.webhookOnly()
  const isWriteFirst = context.conversation.clientId === null
  return envelope(context, {
    message: {
      receiver: message.receiver === null ? {} : receiverOf(message.receiver, isWriteFirst),
      sender: { id: message.sender.id, name: message.sender.name },
      conversation: conversationOf(context),
      ...(source === null ? {} : { source }),
      timestamp: Math.floor(message.sentAtMs / 1_000),
      msec_timestamp: message.sentAtMs,
      message: {
        id: message.id,
        type: message.type,
        text: message.text,
        markup: null,
        tag: '',
        media: message.media,
        thumbnail: message.thumbnail,
        file_name: message.fileName,
        file_size: message.fileSize,
        ...(message.mediaGroupId === null ? {} : { media_group_id: message.mediaGroupId }),
        ...(message.location === null ? {} : { location: message.location }),
        ...(message.contact === null ? {} : { contact: message.contact }),
        ...onlyWebhook,
      },
    },
  })
}

/** `userAt`: the field table has the user beside `typing`, the sample inside it (documented both ways). */
export function typingBody(
  context: WebhookContext,
  user: Person,
  options: { userAt?: 'typing' | 'action'; postId?: string } = {},
): JsonObject {
  const { userAt = 'typing', postId } = options
  return envelope(context, {
    action: {
      ...(userAt === 'action' ? { user: { id: user.id } } : {}),
      typing: {
        ...(userAt === 'typing' ? { user: { id: user.id } } : {}),
        conversation: conversationOf(context),
        expired_at: Math.floor(context.now.getTime() / 1_000) + 5,
        ...(postId === undefined ? {} : { post_id: postId }),
      },
    },
  })
}

/** `shape`: `message` since September 2023, `msgid` in the older sample. Without an emoji the reaction is taken back. */
export function reactionBody(
  context: WebhookContext,
  message: SimulatedMessage,
  user: Person,
  options: { shape?: 'message' | 'msgid'; emoji?: string | null } = {},
): JsonObject {
  const { shape = 'message', emoji = '👍' } = options
  return envelope(context, {
    action: {
      reaction: {
        ...(shape === 'msgid' ? { msgid: message.id } : { message: reactedMessage(message) }),
        user: { id: user.id },
        conversation: conversationOf(context),
        type: emoji === null ? 'unreact' : 'react',
        ...(emoji === null ? {} : { emoji }),
      },
    },
  })
}

/** The deprecated first version: flat, integration-side ids only. */
export function messageV1Body(context: WebhookContext, message: SimulatedMessage): JsonObject {
  return {
    receiver: message.receiver?.clientId ?? '',
    conversation_id: context.conversation.clientId ?? '',
    msec_timestamp: message.sentAtMs,
    type: message.type,
    text: message.text,
    media: message.media,
    thumbnail: message.thumbnail,
    file_name: message.fileName,
    file_size: message.fileSize,
  }
}

/** JSON as PHP writes it by default: `/` as `\/`, everything beyond ASCII as `\uXXXX`. */
export function stringifyLikePhp(value: JsonObject): string {
  return JSON.stringify(value)
    .replaceAll('/', String.raw`\/`)
    .replaceAll(
      /[\u0080-\uffff]/g,
      (unit) => String.raw`\u` + unit.charCodeAt(0).toString(16).padStart(4, '0'),
    )
}

function envelope({ accountId, now }: WebhookContext, content: JsonObject): JsonObject {
  return { account_id: accountId, time: Math.floor(now.getTime() / 1_000), ...content }
}

function conversationOf({ conversation }: WebhookContext): JsonObject {
  return conversation.clientId === null
    ? { id: conversation.id }
    : { id: conversation.id, client_id: conversation.clientId }
}

/** "Write first" carries the chosen number; real webhooks otherwise leave phone and e-mail out when unknown. */
function receiverOf(person: Person, isWriteFirst: boolean): JsonObject {
  if (isWriteFirst) return { id: person.id, phone: person.phone, email: person.email }
  return {
    id: person.id,
    name: person.name,
    ...(person.phone === '' ? {} : { phone: person.phone }),
    ...(person.email === '' ? {} : { email: person.email }),
    ...(person.clientId === null ? {} : { client_id: person.clientId }),
  }
}

function reactedMessage(message: SimulatedMessage): JsonObject {
  return {
    id: message.id,
    ...(message.clientId === null ? {} : { client_id: message.clientId }),
    ...(message.receiver === null ? {} : { receiver: { id: message.receiver.id } }),
    sender: { id: message.sender.id },
    timestamp: Math.floor(message.sentAtMs / 1_000),
    msec_timestamp: message.sentAtMs,
  }
}
