import type { FastifySchema } from 'fastify'

/** RFC 9457. */
const PROBLEM = {
  type: 'object',
  required: ['type', 'title', 'status', 'detail'],
  properties: {
    type: { type: 'string', const: 'about:blank' },
    title: { type: 'string' },
    status: { type: 'integer' },
    detail: { type: 'string', description: 'Never repeats what was sent.' },
  },
} as const

/** An answer that is an error. */
export function problem(description: string) {
  return { description, content: { 'application/problem+json': { schema: PROBLEM } } }
}

/** An answer `{"status": …}` and what else it has. */
export function success(description: string, status: string, others: Record<string, object> = {}) {
  const properties = { status: { type: 'string', const: status }, ...others }
  const schema = { type: 'object', required: Object.keys(properties), properties }
  return { description, content: { 'application/json': { schema } } }
}

/** What a route is for; with it `docs/openapi.json` is made. What comes in is checked where it is understood. */
export type RouteSchema = FastifySchema & {
  summary: string
  description?: string
  tags: readonly ('Kommo' | 'Operator' | 'Orchestrator')[]
  security?: readonly Record<string, readonly string[]>[]
}
