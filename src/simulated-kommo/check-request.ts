import { createHash, createHmac } from 'node:crypto'

/** A request as its signature sees it. */
export interface SignedRequest {
  method: string
  /** Without host and query. */
  path: string
  headers: { [name: string]: string | string[] | undefined }
  body: Uint8Array
}

/** How long a `Date` makes a signature good, in either direction (documented: 15 minutes). */
const validMs = 15 * 60_000

const emptyBodyMd5 = createHash('md5').update('').digest('hex')

/** Why Kommo would answer 403, or `null` when the request is well signed (documented §3.1, §3.2). */
export function faultOfRequest(request: SignedRequest, secret: string, now: Date): string | null {
  const date = header(request, 'date')
  const md5 = header(request, 'content-md5')
  const type = header(request, 'content-type')
  const signature = header(request, 'x-signature')
  if (date === null) return 'no Date header'
  if (md5 === null) return 'no Content-MD5 header'
  if (type === null) return 'no Content-Type header'
  if (signature === null) return 'no X-Signature header'

  const dateMs = parseRfc2822(date)
  if (dateMs === null) return 'Date is not in the form of RFC 2822'
  if (Math.abs(now.getTime() - dateMs) > validMs) return 'Date is more than 15 minutes away'
  if (type !== 'application/json') return 'Content-Type is not application/json'
  if (md5 !== md5Of(request.body)) return 'Content-MD5 is not that of the body'

  const signed = [request.method, md5, type, date, request.path].join('\n')
  const expected = createHmac('sha1', secret).update(signed).digest('hex')
  return signature === expected ? null : 'X-Signature is wrong'
}

const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
const rfc2822 =
  /^(?<weekday>\w{3}), (?<day>\d{2}) (?<month>\w{3}) (?<year>\d{4}) (?<time>\d{2}:\d{2}:\d{2}) (?:\+0000|GMT)$/

/** Milliseconds of a date in English, in UTC, with the right weekday; `null` for anything else. */
export function parseRfc2822(text: string): number | null {
  const groups = rfc2822.exec(text)?.groups
  if (groups === undefined) return null
  const month = String(months.indexOf(groups['month'] ?? '') + 1).padStart(2, '0')
  const ms = Date.parse(`${groups['year']}-${month}-${groups['day']}T${groups['time']}Z`)
  if (Number.isNaN(ms)) return null
  return new Date(ms).toUTCString().startsWith(`${groups['weekday']}, ${groups['day']} ${groups['month']}`)
    ? ms
    : null
}

function md5Of(body: Uint8Array): string {
  return body.length === 0 ? emptyBodyMd5 : createHash('md5').update(body).digest('hex')
}

function header({ headers }: SignedRequest, name: string): string | null {
  const value = headers[name]
  return typeof value === 'string' && value !== '' ? value : null
}
