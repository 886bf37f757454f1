import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { AppError } from '../errors.ts'
import { sendProblem } from './problem.ts'

/** The one translation from errors to answers. */
export function handleError(error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const status = statusOf(error)
  if (status >= 500) request.log.error({ err: error, requestId: request.id }, 'a request failed')
  const [title, detail] = TEXTS[status] ?? (status >= 500 ? TEXTS[500] : TEXTS[400])
  sendProblem(reply, status, title, detail)
}

export function handleNotFound(_request: FastifyRequest, reply: FastifyReply): void {
  const [title, detail] = TEXTS[404]
  sendProblem(reply, 404, title, detail)
}

function statusOf(error: FastifyError): number {
  if (error instanceof AppError && error.retryable) return 503
  return error.statusCode ?? 500
}

const TEXTS: Record<number, readonly [title: string, detail: string]> &
  Record<400 | 404 | 500, readonly [string, string]> = {
  400: ['Bad Request', 'The request cannot be read.'],
  404: ['Not Found', 'There is nothing at this address.'],
  413: ['Content Too Large', 'The body is larger than 1 MiB.'],
  500: ['Internal Server Error', 'The request failed; the log says why.'],
  503: ['Service Unavailable', 'The request cannot be kept now; send it again later.'],
}
