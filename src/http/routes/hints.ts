import { createHash, timingSafeEqual } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import type { FastifyInstance } from 'fastify'
import type { Hint, HintDoor } from '../../domain/hint.ts'
import { parseHint } from '../../kommo/parse-hint.ts'
import { handleNotFound } from '../error-handler.ts'
import { createFailureLimit, sendTooMany } from '../failure-limit.ts'
import { createRateLimit } from '../rate-limit.ts'
import { type RouteSchema, problem, success } from '../schemas.ts'

export interface HintRouteOptions {
  doors: readonly HintDoor[]
  addHint(hint: Hint): void
}

/** A message of 20,000 letters that are not Latin has 120 KB in this encoding. */
const BODY_LIMIT_BYTES = 256 * 1024

/** Kommo disables a webhook after 100 bad answers within 2 h (documented), so only a flood is turned away. */
const GOOD = { perSecond: 100, burst: 1000 }

const HINT: RouteSchema = {
  tags: ['Kommo'],
  summary: "The account's general webhook, as a hint which chats to read again",
  description: 'Not signed, so never taken as data. Off unless `KOMMO_HINTS` is set.',
  params: {
    type: 'object',
    required: ['token'],
    properties: { token: { type: 'string', description: 'One of `KOMMO_HINTS`' } },
  },
  body: { content: { 'application/x-www-form-urlencoded': { schema: { type: 'object' } } } },
  response: {
    200: success('Taken, before anything is written.', 'accepted'),
    404: problem('There is no such door.'),
    413: problem('The body is larger than 256 KiB.'),
    429: problem('Too many wrong tokens from this address, or a flood.'),
  },
}

/**
 * Kommo's general account webhook. It is not signed, so it is only a hint which conversations to read again, and never
 * data; the token in the address keeps strangers from spending our requests. Kommo waits 2 s: the answer is given
 * before anything is written.
 */
export async function hintsRoute(app: FastifyInstance, { doors, addHint }: HintRouteOptions): Promise<void> {
  const good = createRateLimit(GOOD)
  const failures = createFailureLimit()
  const locks = doors.map((door) => ({ door, digest: digest(door.token) }))

  /** Compares with every token, so that the time tells nothing. */
  function doorFor(token: string): HintDoor | null {
    const given = digest(token)
    let opened: HintDoor | null = null
    for (const lock of locks) if (timingSafeEqual(lock.digest, given)) opened = lock.door
    return opened
  }

  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))

  app.addHook<{ Params: { token: string } }>('onRequest', async (request, reply) => {
    // Whatever the content type says: what is no form names no chat.
    request.headers['content-type'] = 'application/octet-stream'
    // Before the body is read.
    const { token } = request.params
    const isOpen = doorFor(token) !== null
    const mayGoOn = isOpen ? good.take(token, performance.now()) : failures.take(request)
    if (!mayGoOn) return sendTooMany(reply)
    if (!isOpen) return handleNotFound(request, reply)
  })

  app.post<{ Params: { token: string } }>(
    '/hints/kommo/:token',
    { schema: HINT, bodyLimit: BODY_LIMIT_BYTES },
    async (request) => {
      const door = doorFor(request.params.token)
      const chats = request.body instanceof Uint8Array ? parseHint(request.body) : []
      if (door !== null) for (const hint of hintsOf(chats, door)) addHint(hint)
      return { status: 'accepted' }
    },
  )
}

/** The webhook tells of every channel of the account; ours can read only the chats of its own (documented). */
function hintsOf(chats: ReturnType<typeof parseHint>, { scopeId, origin: ours }: HintDoor): Hint[] {
  return chats
    .filter(({ origin }) => ours === null || origin === null || origin === ours)
    .map(({ chatId, origin }) => ({
      conversationId: chatId,
      scopeId,
      mayBeNew: ours !== null && origin === ours,
    }))
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
