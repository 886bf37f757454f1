import type { FastifyInstance } from 'fastify'
import type { Metrics } from '../../metrics.ts'
import { sendProblem } from '../problem.ts'

export interface HealthRouteOptions {
  metrics: Metrics
  /** What is missing for work: `[]` when ready. */
  missing(): Promise<string[]>
}

/** For orchestrators: alive, ready, and what Prometheus reads. */
export async function healthRoutes(
  app: FastifyInstance,
  { metrics, missing }: HealthRouteOptions,
): Promise<void> {
  app.get('/healthz', async () => ({ status: 'ok' }))

  app.get('/readyz', async (_request, reply) => {
    const absent = await missing()
    if (absent.length === 0) return { status: 'ready' }
    return sendProblem(reply, 503, 'Service Unavailable', `Not ready: ${absent.join(', ')}.`)
  })

  app.get('/metrics', async (_request, reply) => {
    return reply.type(metrics.registry.contentType).send(await metrics.registry.metrics())
  })
}
