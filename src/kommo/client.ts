import { type Dispatcher, Pool } from 'undici'
import type { Channel } from '../domain/channel.ts'
import { parseScopeId } from '../domain/scope.ts'
import { AppError } from '../errors.ts'
import {
  type HistoryAddress,
  KommoHttpError,
  KommoPayloadError,
  KommoUnreachableError,
  describeHistory,
} from './errors.ts'
import { parseJson } from './parse-json.ts'
import { formatKommoDate, md5Hex, signRequest } from './signature.ts'
import { isUsableId } from './storable.ts'
import { fieldOf } from './wire.ts'

export interface KommoClientOptions {
  /** Origin of the Chats API, no trailing slash. */
  baseUrl: string
  channels: readonly Channel[]
  /** From the first byte sent to the last one read. */
  timeoutMs?: number
  /** An answer with more is refused, not read. */
  maxBodyBytes?: number
  now?: () => Date
}

export interface HistoryPageRequest extends HistoryAddress {
  /** How many records to skip, counted from the newest one. */
  offset: number
  /** 1 to 50. */
  limit?: number
  signal?: AbortSignal
  /** Called as the request's first byte is about to leave, connected and signed; what it throws ends the request. */
  onLeave?: () => void
}

export interface ProbeAnswer {
  status: number
  errorType: string | null
  /** Of the answer's `Date` header. */
  serverTime: Date | null
}

export interface KommoClient {
  /**
   * One page of a conversation, newest record first (inferred); empty when there is nothing (more).
   * @throws KommoHttpError, KommoUnreachableError, KommoPayloadError; the reason of `signal` once that is aborted;
   * an AppError of `onLeave`
   */
  getHistoryPage(request: HistoryPageRequest): Promise<unknown[]>
  /**
   * A signed request for the sake of its answer, which tells of the secret and the clock.
   * @throws KommoUnreachableError
   */
  probe(address: HistoryAddress): Promise<ProbeAnswer>
  /** Waits for what is under way. */
  close(): Promise<void>
}

/** The largest page that Kommo allows (documented); what asking for more does is not. */
export const HISTORY_PAGE_SIZE = 50

const DEFAULT_TIMEOUT_MS = 15_000

/** Fifty messages of the longest texts and keyboards are far below this. */
const DEFAULT_MAX_BODY_BYTES = 16 * 1024 * 1024

const KEEP_ALIVE_MS = 60_000

/** Errors are a few hundred bytes; what is longer is a page of some proxy. */
const MAX_ERROR_BODY_BYTES = 16 * 1024

const CONTENT_TYPE = 'application/json'
const MD5_OF_NO_BODY = md5Hex('')

/** Asks Kommo for history. It neither waits nor repeats: its errors say whether and when to try again. */
export function createKommoClient({
  baseUrl,
  channels,
  timeoutMs = DEFAULT_TIMEOUT_MS,
  maxBodyBytes = DEFAULT_MAX_BODY_BYTES,
  now = () => new Date(),
}: KommoClientOptions): KommoClient {
  const pool = new Pool(baseUrl, {
    connect: { timeout: timeoutMs },
    // A handshake would make a request arrive late, and so closer to the next than the rate allows.
    keepAliveTimeout: KEEP_ALIVE_MS,
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
  })
  let closing: Promise<void> | null = null
  const secrets = new Map(channels.map((channel) => [channel.id, channel.secret]))

  async function request(address: HistoryPageRequest, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    const path = historyPath(address)
    const limit = Math.min(Math.max(address.limit ?? HISTORY_PAGE_SIZE, 1), HISTORY_PAGE_SIZE)
    const dispatcher = address.onLeave === undefined ? pool : pool.compose(callOnLeave(address.onLeave))
    return dispatcher.request({
      method: 'GET',
      path,
      query: { limit, offset: address.offset },
      headers: signedHeaders(path, secretFor(address, secrets), now()),
      signal,
    })
  }

  return {
    async getHistoryPage(address) {
      address.signal?.throwIfAborted()
      const deadline = AbortSignal.timeout(timeoutMs)
      const signal = address.signal ? AbortSignal.any([address.signal, deadline]) : deadline
      try {
        return await readPage(await request(address, signal), { address, maxBodyBytes, now })
      } catch (error) {
        address.signal?.throwIfAborted()
        throw error instanceof AppError ? error : new KommoUnreachableError(address, reasonOf(error))
      }
    },
    async probe(address) {
      try {
        const { statusCode, headers, body } = await request(
          { ...address, offset: 0, limit: 1 },
          AbortSignal.timeout(timeoutMs),
        )
        const errorType = errorTypeIn((await readText(body, MAX_ERROR_BODY_BYTES)) ?? '')
        const at = new Date(String(headers['date']))
        return { status: statusCode, errorType, serverTime: Number.isNaN(at.getTime()) ? null : at }
      } catch (error) {
        throw error instanceof AppError ? error : new KommoUnreachableError(address, reasonOf(error))
      }
    },
    async close() {
      closing ??= pool.close()
      await closing
    },
  }
}

function callOnLeave(onLeave: () => void): Dispatcher.DispatcherComposeInterceptor {
  return (dispatch) => (options, handler) =>
    dispatch(options, {
      onRequestStart(controller, context) {
        handler.onRequestStart?.(controller, context)
        onLeave()
      },
      onRequestUpgrade: (...args) => handler.onRequestUpgrade?.(...args),
      onResponseStart: (...args) => handler.onResponseStart?.(...args),
      onResponseData: (...args) => handler.onResponseData?.(...args),
      onResponseEnd: (...args) => handler.onResponseEnd?.(...args),
      onResponseError: (...args) => handler.onResponseError?.(...args),
    })
}

function historyPath({ scopeId, conversationId }: HistoryAddress): string {
  if (!isUsableId(scopeId) || !isUsableId(conversationId)) {
    throw new AppError('A history cannot be asked for: the scope id or the conversation id is not usable', {
      code: 'unusable_id',
      retryable: false,
    })
  }
  return `/v2/origin/custom/${encodeURIComponent(scopeId)}/chats/${encodeURIComponent(conversationId)}/history`
}

function secretFor(
  { scopeId, conversationId }: HistoryAddress,
  secrets: ReadonlyMap<string, string>,
): string {
  const secret = secrets.get(parseScopeId(scopeId).channelId.toLowerCase())
  if (secret !== undefined) return secret
  throw new AppError(
    `There is no secret for the channel of scope ${scopeId} (conversation ${conversationId}): ` +
      'add the channel to KOMMO_CHANNELS, or KOMMO_CHANNEL_ID and KOMMO_CHANNEL_SECRET',
    { code: 'unknown_channel', retryable: false },
  )
}

function signedHeaders(path: string, secret: string, at: Date): Record<string, string> {
  const date = formatKommoDate(at)
  const parts = { method: 'GET', contentMd5: MD5_OF_NO_BODY, contentType: CONTENT_TYPE, date, path }
  return {
    date,
    'content-type': CONTENT_TYPE,
    'content-md5': MD5_OF_NO_BODY,
    'x-signature': signRequest(parts, secret),
  }
}

interface ReadOptions {
  address: HistoryAddress
  maxBodyBytes: number
  now: () => Date
}

async function readPage(
  { statusCode, headers, body }: Dispatcher.ResponseData,
  { address, maxBodyBytes, now }: ReadOptions,
): Promise<unknown[]> {
  if (statusCode === 204) {
    await body.dump()
    return []
  }
  if (statusCode !== 200) {
    const text = await readText(body, MAX_ERROR_BODY_BYTES)
    if (statusCode < 300) throw unreadable(address, `its status ${statusCode} is not documented`)
    const retryAfter = headers['retry-after']
    throw new KommoHttpError(address, {
      status: statusCode,
      errorType: errorTypeIn(text ?? ''),
      retryAfter: typeof retryAfter === 'string' ? retryAfter : null,
      now: now(),
    })
  }

  const text = await readText(body, maxBodyBytes)
  if (text === null) throw unreadable(address, `it is larger than ${maxBodyBytes} bytes`)
  const messages = fieldOf(parseOrNull(text), 'messages')
  if (!Array.isArray(messages)) throw unreadable(address, 'it is not JSON with a list of messages')
  return messages
}

function unreadable(address: HistoryAddress, fault: string): KommoPayloadError {
  return new KommoPayloadError(`Kommo's answer for ${describeHistory(address)} cannot be used: ${fault}`)
}

/**
 * @returns `null` if there is more than the limit; leaving the loop then closes the connection.
 * Broken UTF-8 becomes U+FFFD: one such message must not stop a conversation for good.
 */
async function readText(body: Dispatcher.ResponseData['body'], maxBytes: number): Promise<string | null> {
  const chunks: Uint8Array[] = []
  let size = 0
  const stream: AsyncIterable<Uint8Array> = body
  for await (const chunk of stream) {
    size += chunk.length
    if (size > maxBytes) return null
    chunks.push(chunk)
  }
  return new TextDecoder().decode(Buffer.concat(chunks))
}

/** The parser's error quotes the text, so it goes no further. */
function parseOrNull(text: string): unknown {
  try {
    return parseJson(text)
  } catch {
    return null
  }
}

/** Seen: `{"error_code":403,"error_type":"ORIGIN_INVALID_SIGNATURE",…}`. Only a short token is safe to show. */
function errorTypeIn(text: string): string | null {
  const type = fieldOf(parseOrNull(text), 'error_type')
  return typeof type === 'string' && /^[\w.-]{1,64}$/.test(type) ? type : null
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown reason'
  if (error.name === 'TimeoutError') return 'no complete answer in time'
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name
}
