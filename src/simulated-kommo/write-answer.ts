import type { ServerResponse } from 'node:http'
import { setTimeout as wait } from 'node:timers/promises'
import { errorAnswer, invalidSignature, notFound, type Answer } from './answer.ts'
import type { Misbehaviour, RetryAfter } from './faults.ts'

/** What a fault makes of the right answer. */
export function spoilAnswer(right: Answer, fault: Misbehaviour | null): Answer {
  switch (fault?.kind) {
    case 'status': {
      const { status, errorType = `SIMULATED_${status}`, retryAfter } = fault
      const answer = status === 404 ? notFound : errorAnswer(status, errorType, `simulated ${status}`)
      return withRetryAfter(answer, retryAfter)
    }
    case 'too-many-requests':
      return withRetryAfter(errorAnswer(429, 'TOO_MANY_REQUESTS', 'too many requests'), fault.retryAfter)
    case 'forbidden':
      return fault.errorType === undefined
        ? invalidSignature
        : errorAnswer(403, fault.errorType, 'simulated 403')
    case 'unreadable-json':
      return { status: 200, headers: jsonType, body: '{"messages":[{"timestamp":16709306' }
    case 'wrong-shape':
      return { status: 200, headers: jsonType, body: JSON.stringify(fault.body ?? { items: 'none' }) }
    case 'empty':
      return { status: 200, headers: jsonType, body: '' }
    case 'slow-headers':
    case 'slow-body':
    case 'cut-off':
    case 'hang-up':
    case undefined:
      break
  }
  return right
}

const jsonType = { 'Content-Type': 'application/json; charset=utf-8' }

/** Writes an answer the way a fault wants it; false when the connection was cut before any of it. */
export async function writeAnswer(
  response: ServerResponse,
  answer: Answer,
  fault: Misbehaviour | null,
  signal: AbortSignal,
): Promise<boolean> {
  if (fault?.kind === 'hang-up') {
    response.destroy()
    return false
  }
  if (fault?.kind === 'slow-headers') await wait(fault.delayMs, undefined, { signal })

  const body = Buffer.from(answer.body)
  const lengthHeader = answer.status === 204 ? {} : { 'Content-Length': String(body.length) }
  response.writeHead(answer.status, { ...answer.headers, ...lengthHeader })
  if (fault?.kind === 'slow-body') await trickle(response, body, fault, signal)
  if (fault?.kind === 'cut-off') {
    response.write(body.subarray(0, Math.floor(body.length / 2)), () => {
      response.destroy()
    })
    return true
  }
  response.end(fault?.kind === 'slow-body' ? undefined : body)
  return true
}

async function trickle(
  response: ServerResponse,
  body: Buffer,
  { bytesPerChunk, everyMs }: { bytesPerChunk: number; everyMs: number },
  signal: AbortSignal,
): Promise<void> {
  response.flushHeaders()
  for (let start = 0; start < body.length && !response.destroyed; start += bytesPerChunk) {
    await wait(everyMs, undefined, { signal })
    response.write(body.subarray(start, start + bytesPerChunk))
  }
}

function withRetryAfter(answer: Answer, retryAfter: RetryAfter | undefined): Answer {
  if (retryAfter === undefined) return answer
  const value = typeof retryAfter === 'number' ? String(retryAfter) : retryAfter.toUTCString()
  return { ...answer, headers: { ...answer.headers, 'Retry-After': value } }
}
