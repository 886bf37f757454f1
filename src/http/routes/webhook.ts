import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import rawBody from 'fastify-raw-body'
import type { Channel } from '../../domain/channel.ts'
import { parseScopeId } from '../../domain/scope.ts'
import type { Inbox } from '../../inbox/inbox.ts'
import { WebhookNotKeptError, receiveWebhook } from '../../inbox/receive-webhook.ts'
import type { Metrics, RejectionReason } from '../../metrics.ts'
import { sendProblem } from '../problem.ts'
import { type RouteSchema, problem, success } from '../schemas.ts'
import { type Refusal, readClaim, verifyWebhook } from '../verify-webhook.ts'

export interface WebhookRouteOptions {
  channels: readonly Channel[]
  inbox: Pick<Inbox, 'add'>
  metrics: Metrics
}

const WEBHOOK: RouteSchema = {
  tags: ['Kommo'],
  summary: "The Chats API's webhook",
  description:
    'To be registered as `https://HOST/webhooks/kommo/:scope_id`, with `:scope_id` literally. Any signed body is taken: ' +
    'of every kind, known or not, and what is no JSON too.',
  params: {
    type: 'object',
    required: ['scopeId'],
    properties: { scopeId: { type: 'string', description: '`{channel id}_{account id}`' } },
  },
  headers: {
    type: 'object',
    required: ['x-signature'],
    properties: {
      'x-signature': {
        type: 'string',
        description: "HMAC-SHA1 of the body with the channel's secret, in hex",
      },
    },
  },
  body: { content: { 'application/json': { schema: { type: 'object' } } } },
  response: {
    200: success('The body is durable.', 'accepted'),
    401: problem('No signature, a wrong one, or an unknown channel. The body is not kept.'),
    413: problem('The body is larger than 1 MiB.'),
    503: problem('Neither database nor disk can take it.'),
  },
}

/** The address registered with Kommo: verified bytes become durable, then 200; nothing else happens before. */
export async function webhookRoute(
  app: FastifyInstance,
  { channels, inbox, metrics }: WebhookRouteOptions,
): Promise<void> {
  await app.register(rawBody, { global: false, encoding: false, runFirst: true })
  // Whatever the content type says, even if it says nothing sensible, the raw bytes are what is signed and kept.
  app.addHook('onRequest', async (request) => {
    request.headers['content-type'] = 'application/octet-stream'
  })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))

  app.addHook('onResponse', async (_request, reply) => {
    metrics.webhookSeconds.observe(reply.elapsedTime / 1000)
  })
  app.addHook('onError', async (_request, _reply, error) => {
    metrics.webhooksRejected.inc({ reason: reasonOf(error) })
  })

  function refuse(reply: FastifyReply, { reason }: Refusal): FastifyReply {
    metrics.webhooksRejected.inc({ reason })
    return sendProblem(reply, 401, 'Unauthorized', 'The body is not signed by a channel of this service.')
  }

  const claimOf = ({ params, headers }: FastifyRequest<WebhookRequest>) =>
    readClaim(channels, params.scopeId, signatureOf(headers['x-signature']))

  app.post<WebhookRequest>(
    '/webhooks/kommo/:scopeId',
    {
      schema: WEBHOOK,
      config: { rawBody: true },
      onRequest(request, reply, done) {
        const claim = claimOf(request)
        // What is too large is refused as that, and not read either.
        const isTooLarge = Number(request.headers['content-length'] ?? 0) > request.routeOptions.bodyLimit
        if (claim.kind === 'claimed' || isTooLarge) done()
        else refuse(reply, claim)
      },
    },
    async (request, reply) => {
      const { scopeId } = request.params
      const body = bytesOf(request.rawBody)
      const verdict = verifyWebhook(claimOf(request), body)
      if (verdict.kind === 'refused') return refuse(reply, verdict)
      if (verdict.signature.secret === 'previous') metrics.webhookOddities.inc({ oddity: 'previous_secret' })
      if (verdict.signature.trimmed) metrics.webhookOddities.inc({ oddity: 'trimmed_body' })

      const { accountId } = parseScopeId(scopeId)
      const receipt = await receiveWebhook(inbox, { channelId: verdict.channel.id, accountId }, body)
      metrics.webhooksAccepted.inc({ kind: receipt.kind })
      if (receipt.accountDiffers) metrics.webhookOddities.inc({ oddity: 'other_account' })
      return { status: 'accepted' }
    },
  )
}

interface WebhookRequest {
  Params: { scopeId: string }
}

/** `not_kept` is the one that loses something: its body was signed. What breaks off or cannot be read was not. */
function reasonOf(error: FastifyError): RejectionReason {
  if (error instanceof WebhookNotKeptError) return 'not_kept'
  return error.statusCode === 413 ? 'too_large' : 'unreadable'
}

function bytesOf(raw: string | Buffer | undefined): Uint8Array {
  return typeof raw === 'string' ? Buffer.from(raw) : (raw ?? Buffer.alloc(0))
}

function signatureOf(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header
}
