import { randomUUID } from 'node:crypto'
import type { Json, JsonObject } from '../domain/json.ts'
import type { Accounts } from './accounts.ts'
import { badRequest, jsonAnswer, noContent, notFound, type Answer } from './answer.ts'
import type { Conversation } from './conversation.ts'
import type { Conversations } from './conversations.ts'
import { emptyContent, type Content, type Person } from './message.ts'

/** The rest of the Chats API (documented §5), as far as a channel's own service would notice. */
export interface OtherMethods {
  connect(channelId: string, body: JsonObject): Answer
  disconnect(channelId: string, body: JsonObject): Answer
  createChat(scopeId: string, body: JsonObject): Answer
  sendMessage(scopeId: string, body: JsonObject): Answer
  deliveryStatus(scopeId: string, messageId: string): Answer
  typing(): Answer
  react(scopeId: string, body: JsonObject): Answer
}

const ok: Answer = { status: 200, body: '' }

export function createOtherMethods(accounts: Accounts, conversations: Conversations): OtherMethods {
  /** Message ids by `conversation id/integration-side id`: the integration names messages by its own. */
  const idByClientId = new Map<string, string>()

  function findOrCreate(scopeId: string, clientId: string, user: JsonObject): Conversation {
    const known = conversations.byClientId(scopeId, clientId)
    return known ?? conversations.create({ scopeId, clientId, seed: clientId, client: clientFrom(user) })
  }

  /** The conversation that a message is for; one named by Kommo's id is tied to the integration's at once. */
  function conversationFor(scopeId: string, payload: JsonObject, user: JsonObject): Conversation | undefined {
    const clientId = text(payload['conversation_id'])
    const refId = text(payload['conversation_ref_id'])
    if (refId === '') return clientId === '' ? undefined : findOrCreate(scopeId, clientId, user)
    const conversation = conversations.get(refId)
    if (conversation === undefined || conversation.scopeId !== scopeId) return undefined
    if (conversation.clientId === null && clientId !== '')
      conversations.tie(conversation, clientId, text(user['id']) || null)
    return conversation
  }

  function newMessage(scopeId: string, payload: JsonObject): Answer {
    const sender = object(payload['sender'])
    const receiver = object(payload['receiver'])
    const isOutgoing = text(receiver['id']) !== ''
    const conversation = conversationFor(scopeId, payload, isOutgoing ? receiver : sender)
    const msgid = text(payload['msgid'])
    if (conversation === undefined || msgid === '') return badRequest('conversation_id and msgid are needed')
    if (idByClientId.has(`${conversation.id}/${msgid}`)) return badRequest('duplicate msgid')

    const sentAtMs = payload['msec_timestamp']
    const content = object(payload['message'])
    const message = conversation.addMessage({
      ...contentFrom(content),
      from: isOutgoing ? 'manager' : 'client',
      clientId: msgid,
      ...(typeof sentAtMs === 'number' ? { sentAtMs } : {}),
    })
    idByClientId.set(`${conversation.id}/${msgid}`, message.id)
    return jsonAnswer(200, {
      new_message: {
        conversation_id: conversation.clientId,
        sender_id: message.sender.clientId,
        receiver_id: message.receiver?.clientId ?? null,
        msgid: message.id,
        ref_id: msgid,
      },
    })
  }

  function editMessage(scopeId: string, payload: JsonObject): Answer {
    const conversation = conversations.byClientId(scopeId, text(payload['conversation_id']))
    if (conversation === undefined) return notFound
    const id = text(payload['id']) || idByClientId.get(`${conversation.id}/${text(payload['msgid'])}`)
    if (id === undefined || conversation.message(id) === undefined) return notFound
    conversation.editMessage(id, contentFrom(object(payload['message'])))
    return ok
  }

  return {
    connect(channelId, body) {
      const accountId = text(body['account_id'])
      if (accountId === '') return badRequest('account_id is needed')
      const { scopeId } = accounts.connect(channelId, accountId)
      return jsonAnswer(200, {
        account_id: accountId,
        scope_id: scopeId,
        title: text(body['title']) || 'Simulated channel',
        hook_api_version: text(body['hook_api_version']) || 'v2',
        is_time_window_disabled: body['is_time_window_disabled'] === true,
      })
    },
    disconnect(channelId, body) {
      accounts.disconnect(channelId, text(body['account_id']))
      return ok
    },
    createChat(scopeId, body) {
      const clientId = text(body['conversation_id'])
      if (clientId === '') return badRequest('conversation_id is needed')
      const { id, cast } = findOrCreate(scopeId, clientId, object(body['user']))
      const { client } = cast
      return jsonAnswer(200, {
        id,
        user: {
          id: client.id,
          client_id: client.clientId,
          name: client.name,
          avatar: client.avatar,
          phone: client.phone,
          email: client.email,
        },
      })
    },
    sendMessage(scopeId, body) {
      const payload = object(body['payload'])
      if (body['event_type'] === 'new_message') return newMessage(scopeId, payload)
      if (body['event_type'] === 'edit_message') return editMessage(scopeId, payload)
      return badRequest('event_type must be new_message or edit_message')
    },
    deliveryStatus: (scopeId, messageId) =>
      conversations.findMessage(scopeId, messageId) === undefined ? notFound : ok,
    typing: () => noContent,
    react(scopeId, body) {
      const conversation =
        conversations.get(text(body['conversation_ref_id'])) ??
        conversations.byClientId(scopeId, text(body['conversation_id']))
      const id = text(body['id']) || idByClientId.get(`${conversation?.id}/${text(body['msgid'])}`)
      return id === undefined || conversation?.message(id) === undefined ? notFound : ok
    },
  }
}

function clientFrom(user: JsonObject): Person {
  const profile = object(user['profile'])
  return {
    id: randomUUID(),
    clientId: text(user['id']) || null,
    name: text(user['name']),
    phone: text(profile['phone']),
    email: text(profile['email']),
    avatar: text(user['avatar']),
  }
}

function contentFrom(message: JsonObject): Content {
  const { lon, lat } = object(message['location'])
  const contact = object(message['contact'])
  const fileSize = message['file_size']
  return {
    ...emptyContent,
    type: text(message['type']) || 'text',
    text: text(message['text']),
    media: text(message['media']),
    fileName: text(message['file_name']),
    fileSize: typeof fileSize === 'number' ? fileSize : 0,
    location: typeof lon === 'number' && typeof lat === 'number' ? { lon, lat } : null,
    contact:
      message['contact'] === undefined
        ? null
        : { name: text(contact['name']), phone: text(contact['phone']) },
  }
}

function object(value: Json | undefined): JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {}
}

function text(value: Json | undefined): string {
  return typeof value === 'string' ? value : ''
}
