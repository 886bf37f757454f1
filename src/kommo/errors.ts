import { AppError } from '../errors.ts'

/** Which history was asked for. */
export interface HistoryAddress {
  scopeId: string
  conversationId: string
}

interface HttpAnswer {
  status: number
  /** The `error_type` of the body, if it is readable. */
  errorType: string | null
  retryAfter: string | null
  now: Date
}

/** Longer waits are not believed: a conversation must not fall asleep for a year. */
const MAX_RETRY_AFTER_MS = 3_600_000

/** Kommo answered, with something else than a history. */
export class KommoHttpError extends AppError {
  readonly status: number
  /** Kommo's own word for it, like `ORIGIN_INVALID_SIGNATURE`. */
  readonly errorType: string | null
  /** The fault lies with the channel and not with this conversation: every request of the channel has to wait. */
  readonly channelFault: boolean

  constructor(address: HistoryAddress, { status, errorType, retryAfter, now }: HttpAnswer) {
    const { retryable, channelFault, advice } = judge(status, errorType)
    const retryAfterMs = status === 429 || status === 503 ? parseRetryAfter(retryAfter, now) : null
    const type = errorType === null ? '' : ` (${errorType})`
    super(`Kommo answered ${status}${type} for ${describeHistory(address)}: ${advice}`, {
      code: 'kommo_http',
      retryable,
      ...(retryAfterMs === null ? {} : { retryAfterMs }),
    })
    this.status = status
    this.errorType = errorType
    this.channelFault = channelFault || retryAfterMs !== null
  }
}

/** Kommo did not answer, or not to the end. */
export class KommoUnreachableError extends AppError {
  /** @param reason a code like `ECONNREFUSED`; the error itself may carry a piece of the answer, so it is left out */
  constructor(address: HistoryAddress, reason: string) {
    super(
      `Kommo could not be reached for ${describeHistory(address)} (${reason}): check KOMMO_BASE_URL and the network`,
      {
        code: 'kommo_unreachable',
        retryable: true,
      },
    )
  }
}

/** Kommo answered with success, but with something that is no history. The message must not quote it. */
export class KommoPayloadError extends AppError {
  constructor(message: string) {
    super(message, { code: 'kommo_payload', retryable: true })
  }
}

interface Judgement {
  /** Whether the same request may succeed later. */
  retryable: boolean
  channelFault: boolean
  advice: string
}

function judge(status: number, errorType: string | null): Judgement {
  if (status === 429) {
    return {
      retryable: true,
      channelFault: true,
      advice: 'too many requests; lower KOMMO_REQUESTS_PER_SECOND',
    }
  }
  if (status === 403 && (errorType === null || /SIGNATURE/i.test(errorType))) {
    // The conversation is not to blame, so it stays retryable: it succeeds once the secret or the clock is right.
    const advice = 'the signature was refused; check KOMMO_CHANNEL_SECRET and the clock of this machine'
    return { retryable: true, channelFault: true, advice }
  }
  if (status >= 500 || status === 408 || status === 425) {
    return { retryable: true, channelFault: false, advice: 'it will be tried again' }
  }
  return { retryable: false, channelFault: false, advice: adviceFor(status) }
}

function adviceFor(status: number): string {
  if (status < 400) return 'redirects are not followed; set KOMMO_BASE_URL to where it leads'
  if (status === 404) return 'check KOMMO_BASE_URL, and that the account is connected to the channel'
  return 'check the scope id and the conversation id'
}

/** Seconds or an HTTP date (RFC 9110); `null` when it is neither. */
function parseRetryAfter(value: string | null, now: Date): number | null {
  if (value === null) return null
  const waitMs = /^\d+(\.\d+)?$/.test(value)
    ? Math.ceil(Number(value) * 1000)
    : httpDate(value) - now.getTime()
  return Number.isNaN(waitMs) ? null : Math.min(Math.max(waitMs, 0), MAX_RETRY_AFTER_MS)
}

/** `Date.parse` reads nearly anything; every form of an HTTP date begins with the day of the week. */
function httpDate(value: string): number {
  return /^[A-Z][a-z]{2,8},? /.test(value) ? Date.parse(value) : Number.NaN
}

export function describeHistory({ scopeId, conversationId }: HistoryAddress): string {
  return `the history of conversation ${conversationId} in scope ${scopeId}`
}
