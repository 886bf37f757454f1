import { crc32 } from 'node:zlib'
import { z } from 'zod'
import type { InboxWebhook, WebhookKind } from '../domain/webhook.ts'

/**
 * One webhook on disk: mark, length and CRC-32 of the payload, then the payload: length of a JSON header, the header, the
 * body as it came. The mark is where reading goes on after damage. Numbers are little-endian, 32 bits.
 */
const MARK = Buffer.from('\u0000KSR1\r\n\u00ff', 'latin1')
const PREFIX_BYTES = MARK.length + 8

/** A body has at most 1 MiB and ids are short; a greater length is damage. */
const MOST_PAYLOAD_BYTES = 2 * 1024 * 1024

const moment = z.number().transform((ms) => new Date(ms))

/** All of them, or the type check fails: a kind that could be written and not read would be lost. */
const KINDS = {
  message: 'message',
  typing: 'typing',
  reaction: 'reaction',
  message_v1: 'message_v1',
  unknown: 'unknown',
  invalid: 'invalid',
} as const satisfies { [Kind in WebhookKind]: Kind }

const header = z.object({
  receiptId: z.uuid(),
  receivedAt: moment,
  scopeId: z.string().nullable(),
  kind: z.enum(KINDS),
  conversationId: z.string().nullable(),
  conversationClientId: z.string().nullable(),
  messageId: z.string().nullable(),
  sentAt: moment.nullable(),
  error: z.string().nullable(),
})

/** @param now when it arrived, unless the webhook knows better */
export function encodeRecord({ body, ...known }: InboxWebhook, now: Date): Buffer {
  const { receivedAt, sentAt } = known
  const moments = { receivedAt: (receivedAt ?? now).getTime(), sentAt: sentAt?.getTime() ?? null }
  const json = Buffer.from(JSON.stringify({ ...known, ...moments }))
  const record = Buffer.allocUnsafe(PREFIX_BYTES + 4 + json.length + body.byteLength)
  record.set(MARK)
  record.writeUInt32LE(record.length - PREFIX_BYTES, MARK.length)
  record.writeUInt32LE(json.length, PREFIX_BYTES)
  record.set(json, PREFIX_BYTES + 4)
  record.set(body, PREFIX_BYTES + 4 + json.length)
  record.writeUInt32LE(crc32(record.subarray(PREFIX_BYTES)), MARK.length + 4)
  return record
}

export interface SpoolContent {
  webhooks: InboxWebhook[]
  /** Stretches that cannot be read, with records after them or of full length: damage. */
  corrupt: number
  /** Bytes of a last record that was being written when the process died: it was not acknowledged. */
  tornBytes: number
}

/** Reads records until their end. Never throws: what cannot be read is passed over and counted. */
export function readRecords(bytes: Buffer): SpoolContent {
  const content: SpoolContent = { webhooks: [], corrupt: 0, tornBytes: 0 }
  let offset = 0
  while (offset < bytes.length) {
    let record = readRecord(bytes, offset)
    if (record === null) {
      const next = findRecord(bytes, offset + 1)
      if (next === null) {
        if (isTorn(bytes, offset)) content.tornBytes = bytes.length - offset
        else content.corrupt += 1
        return content
      }
      content.corrupt += 1
      record = next
    }
    content.webhooks.push(record.webhook)
    offset = record.end
  }
  return content
}

interface ReadRecord {
  webhook: InboxWebhook
  end: number
}

function readRecord(bytes: Buffer, offset: number): ReadRecord | null {
  const start = offset + PREFIX_BYTES
  if (start + 4 > bytes.length || !bytes.subarray(offset, offset + MARK.length).equals(MARK)) return null
  const end = start + bytes.readUInt32LE(offset + MARK.length)
  if (end - start > MOST_PAYLOAD_BYTES || end > bytes.length) return null
  const payload = bytes.subarray(start, end)
  if (crc32(payload) !== bytes.readUInt32LE(offset + MARK.length + 4)) return null
  const bodyStart = 4 + payload.readUInt32LE(0)
  const known = parseHeader(payload.toString('utf8', 4, bodyStart))
  return known && { webhook: { ...known, body: payload.subarray(bodyStart) }, end }
}

function parseHeader(json: string): z.infer<typeof header> | null {
  try {
    return header.parse(JSON.parse(json))
  } catch {
    return null
  }
}

function findRecord(bytes: Buffer, from: number): ReadRecord | null {
  for (let at = bytes.indexOf(MARK, from); at !== -1; at = bytes.indexOf(MARK, at + 1)) {
    const record = readRecord(bytes, at)
    if (record !== null) return record
  }
  return null
}

/** Whether the file ends inside a record that is well as far as it goes. */
function isTorn(bytes: Buffer, offset: number): boolean {
  const left = bytes.subarray(offset)
  const marked = MARK.subarray(0, left.length).equals(left.subarray(0, MARK.length))
  if (!marked || left.length < PREFIX_BYTES) return marked
  const length = left.readUInt32LE(MARK.length)
  return length <= MOST_PAYLOAD_BYTES && PREFIX_BYTES + length > left.length
}
