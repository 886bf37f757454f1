import type { Json, JsonObject } from '../domain/json.ts'
import type { WebhookKind } from '../domain/webhook.ts'
import { parseJson } from './parse-json.ts'
import { fieldOf, isEmpty, isObject, readId, readMilliseconds, readSeconds } from './wire.ts'

/** What the inbox has to know of a webhook; its content stays in the body. */
export interface ClassifiedWebhook {
  kind: WebhookKind
  /** The account in the chats service; unlike the scope in the address, it is signed. */
  accountId: string | null
  /** Chats API side: the id for the history. */
  conversationId: string | null
  /** Integration side; absent when a manager wrote first. */
  conversationClientId: string | null
  /** The message that the webhook brings, or that was reacted to. */
  messageId: string | null
  /** When that message was sent. */
  sentAt: Date | null
  /** Why nothing, or no message, can be taken from this webhook. It quotes no content. */
  error: string | null
}

const NO_CONVERSATION =
  'The webhook names no conversation (an id of 1 to 1024 bytes), so nothing can be read for it.'
const NO_MESSAGE_ID = 'The message has no usable id (1 to 1024 bytes): only the history can bring it.'
const NO_REACTED_MESSAGE = 'The reaction names no message (an id of 1 to 1024 bytes), so it cannot be stored.'
const MESSAGE_V1 =
  'This is a webhook of version v1, which carries no message id and cannot be stored. ' +
  'Connect the account again with "hook_api_version": "v2".'
const NOT_UTF8 = 'The body is not UTF-8.'
const NOT_JSON = 'The body is not JSON.'
const NOT_AN_OBJECT = 'The body is JSON, but not an object.'
const FORM_ENCODED =
  "The body is a form: the account's general webhook, which is another thing than the channel's webhook. " +
  'Remove this address from the webhooks of the account.'

const UTF8 = new TextDecoder('utf-8', { fatal: true })

/** Tells the kinds apart by their shape (inferred from the documented samples). Never throws. */
export function classifyWebhook(body: Uint8Array): ClassifiedWebhook {
  const read = readBody(body)
  if (typeof read === 'string') return classified('invalid', { error: read })

  const accountId = idIn(read, 'account_id')
  const { message, action } = read
  const content = fieldOf(message, 'message')
  if (isObject(content)) {
    const messageId = idIn(content, 'id')
    const ids = { ...conversationIn(message), accountId, messageId }
    const sentAt = sentAtOf(message) ?? readSeconds(read['time'] ?? null)
    const error = ids.conversationId === null ? NO_CONVERSATION : messageId === null ? NO_MESSAGE_ID : null
    return classified('message', { ...ids, sentAt, error })
  }

  const typing = fieldOf(action, 'typing')
  if (!isEmpty(typing)) return withConversation('typing', typing, { accountId })

  const reaction = fieldOf(action, 'reaction')
  if (!isEmpty(reaction)) {
    // Until September 2023 the message was named by `msgid` alone (documented).
    const reactedTo = fieldOf(reaction, 'message')
    const messageId = idIn(reactedTo, 'id') ?? idIn(reaction, 'msgid')
    const known = { accountId, messageId, sentAt: sentAtOf(reactedTo) }
    const told = withConversation('reaction', reaction, known)
    return messageId === null ? { ...told, error: told.error ?? NO_REACTED_MESSAGE } : told
  }

  if (typeof read['receiver'] === 'string' && Object.hasOwn(read, 'conversation_id')) {
    return classified('message_v1', { accountId, error: MESSAGE_V1 })
  }
  return withConversation('unknown', holderOfConversation(read), { accountId })
}

/** The body of a webhook as an object; `null` where `classifyWebhook` says `invalid`. */
export function parseWebhook(body: Uint8Array): JsonObject | null {
  const read = readBody(body)
  return typeof read === 'string' ? null : read
}

/** @returns the object, or why there is none */
function readBody(body: Uint8Array): JsonObject | string {
  let text: string
  try {
    text = UTF8.decode(body)
  } catch {
    return NOT_UTF8
  }
  try {
    const value = parseJson(text)
    return isObject(value) ? value : NOT_AN_OBJECT
  } catch {
    return /^[a-z_]+(\[|%5B)/i.test(text) ? FORM_ENCODED : NOT_JSON
  }
}

function classified(kind: WebhookKind, known: Partial<ClassifiedWebhook>): ClassifiedWebhook {
  return {
    kind,
    accountId: null,
    conversationId: null,
    conversationClientId: null,
    messageId: null,
    sentAt: null,
    error: null,
    ...known,
  }
}

function withConversation(
  kind: WebhookKind,
  holder: Json | undefined,
  known: Partial<ClassifiedWebhook>,
): ClassifiedWebhook {
  const ids = conversationIn(holder)
  return classified(kind, { ...known, ...ids, error: ids.conversationId === null ? NO_CONVERSATION : null })
}

function conversationIn(holder: Json | undefined) {
  const conversation = fieldOf(holder, 'conversation')
  return {
    conversationId: idIn(conversation, 'id'),
    conversationClientId: idIn(conversation, 'client_id'),
  }
}

/** A kind that Kommo may add one day probably names its conversation where the known ones do. */
function holderOfConversation(body: JsonObject): Json | undefined {
  const { action } = body
  const candidates = [body['message'], action, ...(isObject(action) ? Object.values(action) : []), body]
  return candidates.find((candidate) => conversationIn(candidate).conversationId !== null)
}

function sentAtOf(message: Json | undefined): Date | null {
  return (
    readMilliseconds(fieldOf(message, 'msec_timestamp') ?? null) ??
    readSeconds(fieldOf(message, 'timestamp') ?? null)
  )
}

function idIn(holder: Json | undefined, name: string): string | null {
  return readId(fieldOf(holder, name) ?? null)
}
