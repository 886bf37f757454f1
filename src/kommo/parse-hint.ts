/** A chat that the account's general webhook names. */
export interface NamedChat {
  chatId: string
  /** Code of the channel it belongs to; `null` when the webhook does not say. */
  origin: string | null
}

/** One webhook carries one event (seen); whoever sends more of them says nothing more urgent. */
const MAX_CHATS = 100

/** Longer names are not Kommo's, and the pattern below would take long over them. */
const MAX_NAME_LENGTH = 100

/** `message[add][0][chat_id]` (documented); how an outgoing message is spelled is not, so any event of a message will do. */
const FIELD = /^(\w*message\w*\[\w+\]\[\d+\])\[(chat_id|origin)\]$/

/** What Kommo calls a chat (documented). Nothing else becomes a conversation: the sender is unproven. */
const UUID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i

/**
 * The chats that a body of Kommo's general account webhook names, each once, at most 100; nothing else is looked at,
 * because nobody has signed it. Never throws: of a body that is something else nothing is usable.
 */
export function parseHint(body: Uint8Array): NamedChat[] {
  const messages = new Map<string, { chat_id?: string; origin?: string }>()
  for (const [name, value] of new URLSearchParams(Buffer.from(body).toString())) {
    if (name.length > MAX_NAME_LENGTH) continue
    const [, message, field] = FIELD.exec(name) ?? []
    if (message === undefined || (field !== 'chat_id' && field !== 'origin')) continue
    messages.set(message, { ...messages.get(message), [field]: value })
  }
  const chats = new Map<string, NamedChat>()
  for (const { chat_id: chatId = '', origin = '' } of messages.values()) {
    if (chats.size === MAX_CHATS) break
    if (UUID.test(chatId)) chats.set(chatId, { chatId, origin: origin === '' ? null : origin })
  }
  return [...chats.values()]
}
