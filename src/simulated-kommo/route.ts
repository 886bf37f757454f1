/** A method of the Chats API with the ids in its address. */
export type Route =
  | { name: 'history'; channelId: string; scopeId: string; conversationId: string }
  | { name: 'connect' | 'disconnect'; channelId: string }
  | { name: 'create-chat' | 'send-message' | 'typing' | 'react'; channelId: string; scopeId: string }
  | { name: 'delivery-status'; channelId: string; scopeId: string; messageId: string }

const prefix = '/v2/origin/custom/'

/** `null` where Kommo has nothing (documented §5.10). */
export function findRoute(method: string, path: string): Route | null {
  if (!path.startsWith(prefix)) return null
  const [first = '', second, third, fourth, ...rest] = path.slice(prefix.length).split('/')
  if (first === '' || rest.length > 0) return null

  if (!first.includes('_')) {
    if (third !== undefined) return null
    if (method === 'POST' && second === 'connect') return { name: 'connect', channelId: first }
    if (method === 'DELETE' && second === 'disconnect') return { name: 'disconnect', channelId: first }
    return null
  }

  const scope = { channelId: first.slice(0, first.indexOf('_')), scopeId: first }
  if (method === 'GET') {
    const isHistory = second === 'chats' && third !== undefined && third !== '' && fourth === 'history'
    return isHistory ? { name: 'history', ...scope, conversationId: third } : null
  }
  if (method !== 'POST' || fourth !== undefined) return null
  if (third === 'delivery_status') return { name: 'delivery-status', ...scope, messageId: second ?? '' }
  if (third !== undefined) return null
  switch (second) {
    case undefined:
      return { name: 'send-message', ...scope }
    case 'chats':
      return { name: 'create-chat', ...scope }
    case 'typing':
      return { name: 'typing', ...scope }
    case 'react':
      return { name: 'react', ...scope }
    default:
      return null
  }
}
