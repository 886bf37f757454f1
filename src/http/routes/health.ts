import type { FastifyInstance } from 'fastify'
import type { Metrics } from '../../metrics.ts'
import { sendProblem } from '../problem.ts'
import { type RouteSchema, problem, success } from '../schemas.ts'

export interface HealthRouteOptions {
  metrics: Metrics
  /** What is missing for work: `[]` when ready. */
  missing(): Promise<string[]>
}

const HEALTHZ: RouteSchema = {
  tags: ['Orchestrator'],
  summary: 'Does the process live?',
  description: 'Never touches the database.',
  response: { 200: success('It lives.', 'ok') },
}

const READYZ: RouteSchema = {
  tags: ['Orchestrator'],
  summary: 'Should it be sent requests?',
  response: {
    200: success('Yes.', 'ready'),
    503: problem('No; `detail` names what is missing: database, migrations, draining.'),
  },
}

const METRICS: RouteSchema = {
  tags: ['Orchestrator'],
  summary: 'What Prometheus reads',
  response: {
    200: {
      description: 'The Prometheus text format. Nothing personal.',
      content: { 'text/plain': { schema: { type: 'string' } } },
    },
  },
}

/** For orchestrators: alive, ready, and what Prometheus reads. */
export async function healthRoutes(
  app: FastifyInstance,
  { metrics, missing }: HealthRouteOptions,
): Promise<void> {
  app.get('/healthz', { schema: HEALTHZ }, async () => ({ status: 'ok' }))

  app.get('/readyz', { schema: READYZ }, async (_request, reply) => {
    const absent = await missing()
    if (absent.length === 0) return { status: 'ready' }
    return sendProblem(reply, 503, 'Service Unavailable', `Not ready: ${absent.join(', ')}.`)
  })

  app.get('/metrics', { schema: METRICS }, async (_request, reply) => {
    return reply.type(metrics.registry.contentType).send(await metrics.registry.metrics())
  })
}
