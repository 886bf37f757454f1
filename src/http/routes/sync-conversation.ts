import { createHash, timingSafeEqual } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { formatScopeId, parseScopeId } from '../../domain/scope.ts'
import { isUsableId } from '../../kommo/storable.ts'
import type { SyncCall } from '../../store/conversations.ts'
import { handleNotFound } from '../error-handler.ts'
import { createFailureLimit, sendTooMany } from '../failure-limit.ts'
import { sendProblem } from '../problem.ts'
import { type RouteSchema, problem, success } from '../schemas.ts'

export interface SyncConversationRouteOptions {
  /** `null`: the route does not exist. */
  adminToken: string | null
  callForSync(call: SyncCall): Promise<boolean>
  isKnownChannel(scopeId: string): boolean
}

const bodySchema = z
  .object({ scope_id: z.string().refine(isUsableId) })
  .partial()
  .nullish()

const SYNC: RouteSchema = {
  tags: ['Operator'],
  summary: 'Read a conversation again',
  description: 'Shares the reads that are due anyway: at most one a second for a conversation.',
  security: [{ adminToken: [] }],
  params: {
    type: 'object',
    required: ['id'],
    properties: { id: { type: 'string', description: "Kommo's id of the conversation" } },
  },
  body: {
    content: {
      'application/json': {
        schema: {
          type: 'object',
          properties: {
            scope_id: { type: 'string', description: '`{channel id}_{account id}`; needed if it is new' },
          },
        },
      },
    },
  },
  response: {
    202: success('It will be read.', 'accepted', { conversation_id: { type: 'string' } }),
    400: problem('The body, the id or the scope cannot be used.'),
    401: problem('The bearer token is missing or wrong.'),
    404: problem('The conversation is not known and no scope was given; or `ADMIN_TOKEN` is not set.'),
    429: problem('Too many wrong tokens from this address.'),
  },
}

/** For the operator and the integration itself: read this conversation again. */
export async function syncConversationRoute(
  app: FastifyInstance,
  { adminToken, callForSync, isKnownChannel }: SyncConversationRouteOptions,
): Promise<void> {
  const failures = createFailureLimit()

  app.addHook('onRequest', async (request, reply) => {
    if (adminToken === null) return handleNotFound(request, reply)
    if (!isBearer(request.headers.authorization, adminToken)) {
      if (!failures.take(request)) return sendTooMany(reply)
      reply.header('www-authenticate', 'Bearer')
      return sendProblem(reply, 401, 'Unauthorized', 'The bearer token is missing or wrong.')
    }
  })

  app.post<{ Params: { id: string } }>(
    '/conversations/:id/sync',
    { schema: SYNC },
    async (request, reply) => {
      const body = bodySchema.safeParse(request.body)
      if (!body.success)
        return sendProblem(reply, 400, 'Bad Request', 'The body must be {"scope_id": "…"} or absent.')
      const scopeId =
        body.data?.scope_id === undefined ? null : formatScopeId(parseScopeId(body.data.scope_id))
      if (scopeId !== null && !isKnownChannel(scopeId)) {
        return sendProblem(reply, 400, 'Bad Request', 'The scope belongs to no channel of this service.')
      }
      const conversationId = request.params.id
      if (!isUsableId(conversationId)) {
        return sendProblem(reply, 400, 'Bad Request', 'The conversation id is not one that Kommo gives.')
      }
      const called = await callForSync({ conversationId, scopeId, full: false, patient: true })
      if (!called) {
        return sendProblem(
          reply,
          404,
          'Not Found',
          'The conversation is not known yet: name its scope_id in the body.',
        )
      }
      return reply.code(202).send({ status: 'accepted', conversation_id: conversationId })
    },
  )
}

/** Compares digests, so that neither the time nor a length tells how much of the token was right. */
function isBearer(header: string | undefined, token: string): boolean {
  return timingSafeEqual(digest(header ?? ''), digest(`Bearer ${token}`))
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
