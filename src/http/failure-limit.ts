import { performance } from 'node:perf_hooks'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { sendProblem } from './problem.ts'
import { createRateLimit } from './rate-limit.ts'

/** Wrong tokens from one address: a few are a mistake, more are somebody who guesses. */
const FAILURES = { perSecond: 1 / 3, burst: 20 }

export interface FailureLimit {
  /**
   * Counts a failure. Who has the right token is never counted and never refused: behind a proxy that is not trusted
   * (`TRUST_PROXY`) everybody has the address of whoever guesses.
   * @returns false when the address has failed too often
   */
  take(request: FastifyRequest): boolean
}

export function createFailureLimit(): FailureLimit {
  const limit = createRateLimit(FAILURES)
  return { take: ({ ip }) => limit.take(ip, performance.now()) }
}

export function sendTooMany(reply: FastifyReply): FastifyReply {
  reply.header('retry-after', '60')
  return sendProblem(reply, 429, 'Too Many Requests', 'Send this again later.')
}
