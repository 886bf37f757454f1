import type { IncomingMessage, ServerResponse } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { setTimeout as wait } from 'node:timers/promises'
import type { JsonObject } from '../domain/json.ts'
import type { Accounts } from './accounts.ts'
import { badRequest, errorAnswer, invalidSignature, notFound, type Answer } from './answer.ts'
import { faultOfRequest } from './check-request.ts'
import type { Conversations } from './conversations.ts'
import type { FaultSource, Misbehaviour } from './faults.ts'
import { answerHistory, readPage, type Page } from './history-method.ts'
import type { OtherMethods } from './other-methods.ts'
import { findRoute, type Route } from './route.ts'
import type { LoggedRequest, StatsRecorder } from './stats.ts'
import { spoilAnswer, writeAnswer } from './write-answer.ts'

export interface RequestHandlerParts {
  accounts: Accounts
  conversations: Conversations
  otherMethods: OtherMethods
  faults: FaultSource
  stats: StatsRecorder
  now: () => Date
  signal: AbortSignal
}

/** One request as it came in. */
interface Call {
  method: string
  path: string
  query: URLSearchParams
  headers: IncomingMessage['headers']
  body: Buffer
}

interface Outcome {
  answer: Answer
  fault: Misbehaviour | null
}

/** Arrival → address → signature → fault → method → answer; every step counted. */
export function createRequestHandler(parts: RequestHandlerParts) {
  const { accounts, conversations, otherMethods, faults, stats, now, signal } = parts

  return async function handleRequest(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const arrivedAtMs = performance.now()
    const { method = '', url = '', headers } = request
    const [path = '', search = ''] = url.split('?', 2)
    const query = new URLSearchParams(search)
    const route = findRoute(method, path)
    const logged = logEntry(method, path, query, route, now())
    stats.arrived(logged, route?.name === 'history', arrivedAtMs)

    try {
      const body = await readBody(request)
      const { answer, fault } = await decide(
        { method, path, query, headers, body },
        route,
        logged,
        arrivedAtMs,
      )
      if (faults.latencyMs > 0) await wait(faults.latencyMs, undefined, { signal })
      const spoiled = spoilAnswer(answer, fault)
      if (fault?.kind !== 'hang-up') stats.answered(logged, spoiled.status)
      await writeAnswer(response, spoiled, fault, signal)
    } catch (error) {
      if (signal.aborted || response.destroyed || response.headersSent) {
        response.destroy()
        return
      }
      // A mistake in the simulation or in a listener: told to the caller, since no log is kept.
      stats.answered(logged, 500)
      await writeAnswer(response, errorAnswer(500, 'SIMULATION_FAILED', String(error)), null, signal)
    }
  }

  async function decide(
    call: Call,
    route: Route | null,
    logged: LoggedRequest,
    arrivedAtMs: number,
  ): Promise<Outcome> {
    const refuse = (answer: Answer, reason: string): Outcome => {
      logged.reason = reason
      return { answer, fault: null }
    }
    const channel = route === null ? undefined : accounts.channel(route.channelId)
    if (route === null || channel === undefined) return refuse(notFound, 'no such address or channel')
    const signatureFault = faultOfRequest(call, channel.secret, now())
    if (signatureFault !== null) return refuse(invalidSignature, signatureFault)
    if ('scopeId' in route && accounts.connected(route.scopeId) === undefined)
      return refuse(notFound, 'scope is not connected')

    const fault = faults.take(route.channelId, logged.conversationId, arrivedAtMs)
    if (route.name !== 'history') return { answer: answerOther(route, call.body), fault }

    const page = readPage(call.query)
    if (!('fault' in page)) await tellListeners(route, page)
    const conversation = conversations.get(route.conversationId)
    const isOfScope = conversation?.scopeId === route.scopeId
    return { answer: answerHistory(isOfScope ? conversation : undefined, page), fault }
  }

  async function tellListeners(
    { channelId, scopeId, conversationId }: Extract<Route, { name: 'history' }>,
    { limit, offset }: Page,
  ): Promise<void> {
    const number = stats.historyRequestsOf(conversationId)
    for (const listener of faults.listeners)
      await listener({ channelId, scopeId, conversationId, limit, offset, number })
  }

  function answerOther(route: Exclude<Route, { name: 'history' }>, bytes: Buffer): Answer {
    const body = parseObject(bytes)
    if (body === null) return badRequest('the body is not a JSON object')
    switch (route.name) {
      case 'connect':
        return otherMethods.connect(route.channelId, body)
      case 'disconnect':
        return otherMethods.disconnect(route.channelId, body)
      case 'create-chat':
        return otherMethods.createChat(route.scopeId, body)
      case 'send-message':
        return otherMethods.sendMessage(route.scopeId, body)
      case 'delivery-status':
        return otherMethods.deliveryStatus(route.scopeId, route.messageId)
      case 'react':
        return otherMethods.react(route.scopeId, body)
      case 'typing':
        break
    }
    return otherMethods.typing()
  }
}

function logEntry(
  method: string,
  path: string,
  query: URLSearchParams,
  route: Route | null,
  at: Date,
): LoggedRequest {
  return {
    at,
    method,
    path,
    channelId: route?.channelId ?? null,
    conversationId: route?.name === 'history' ? route.conversationId : null,
    limit: query.get('limit'),
    offset: query.get('offset'),
    status: null,
    reason: null,
  }
}

const emptyBody = Buffer.alloc(0)

/** A GET without a body has neither header, and is not waited for. */
async function readBody(request: IncomingMessage): Promise<Buffer> {
  const { headers } = request
  const hasBody = headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined
  return hasBody ? await buffer(request) : emptyBody
}

function parseObject(bytes: Buffer): JsonObject | null {
  try {
    const value: unknown = JSON.parse(bytes.toString())
    return isJsonObject(value) ? value : null
  } catch {
    return null
  }
}

function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
