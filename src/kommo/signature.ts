import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { Channel } from '../domain/channel.ts'

/** What a request is signed over; every value exactly as it is sent. */
export interface SignedParts {
  method: string
  contentMd5: string
  contentType: string
  date: string
  /** Without scheme, host and query: the published sample verifies only so (documented). */
  path: string
}

/** Which secret a webhook was signed with, and whether its final line break had to be left out. */
export interface VerifiedSignature {
  secret: 'current' | 'previous'
  trimmed: boolean
}

/** The `X-Signature` of a request (documented). The key is the secret as text, not the bytes it would decode to. */
export function signRequest(parts: SignedParts, secret: string): string {
  const { method, contentMd5, contentType, date, path } = parts
  return createHmac('sha1', secret)
    .update([method, contentMd5, contentType, date, path].join('\n'))
    .digest('hex')
}

export function md5Hex(body: string | Uint8Array): string {
  return createHash('md5').update(body).digest('hex')
}

/** RFC 2822 with a numeric zone. `toUTCString` is English and in UTC by specification; its `GMT` was refused (seen). */
export function formatKommoDate(date: Date): string {
  return date.toUTCString().replace(/GMT$/, '+0000')
}

/** The `X-Signature` of a webhook (documented): over the raw bytes, nothing else. */
export function signWebhook(body: Uint8Array, secret: string): string {
  return createHmac('sha1', secret).update(body).digest('hex')
}

/**
 * Checks a webhook's signature in constant time: the current secret first, then the previous one. Some senders do not
 * sign a final line break (seen), so a body that ends in one gets a second try without it.
 * Every possible secret is always tried, so that the time taken does not tell which one fitted.
 */
export function verifyWebhookSignature({
  body,
  signature,
  channel,
}: {
  body: Uint8Array
  signature: string | undefined
  channel: Channel
}): VerifiedSignature | null {
  if (signature === undefined || !/^[\da-f]{40}$/i.test(signature)) return null
  const given = Buffer.from(signature, 'hex')

  const trimmedBody = withoutFinalLineBreaks(body)
  const bodies = trimmedBody.length === body.length ? [body] : [body, trimmedBody]
  const verified = bodies.flatMap((bytes, index): VerifiedSignature[] => {
    const trimmed = index > 0
    const current = fits(bytes, channel.secret, given)
    const previous = channel.previousSecret !== null && fits(bytes, channel.previousSecret, given)
    if (current) return [{ secret: 'current', trimmed }]
    return previous ? [{ secret: 'previous', trimmed }] : []
  })
  return verified[0] ?? null
}

function fits(body: Uint8Array, secret: string, given: Uint8Array): boolean {
  return timingSafeEqual(createHmac('sha1', secret).update(body).digest(), given)
}

const LINE_FEED = 0x0a
const CARRIAGE_RETURN = 0x0d

function withoutFinalLineBreaks(body: Uint8Array): Uint8Array {
  const last = body.findLastIndex((byte) => byte !== LINE_FEED && byte !== CARRIAGE_RETURN)
  return body.subarray(0, last + 1)
}
