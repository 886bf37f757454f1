import type { FastifyReply } from 'fastify'

/** Answers with RFC 9457 `application/problem+json`; `detail` never repeats what was sent. */
export function sendProblem(
  reply: FastifyReply,
  status: number,
  title: string,
  detail: string,
): FastifyReply {
  return reply
    .code(status)
    .type('application/problem+json')
    .send({ type: 'about:blank', title, status, detail })
}
