import type { JsonObject } from '../domain/json.ts'

export interface Answer {
  status: number
  headers?: Record<string, string>
  body: string
}

export function jsonAnswer(status: number, body: JsonObject): Answer {
  return {
    status,
    headers: { 'Content-Type': 'application/json; charset=utf-8' },
    body: JSON.stringify(body),
  }
}

/** The envelope that was seen for a wrong signature; client libraries read the same one for 400. */
export function errorAnswer(status: number, errorType: string, description: string): Answer {
  return jsonAnswer(status, {
    status: 0,
    error_code: status,
    error_type: errorType,
    error_description: description,
  })
}

export const noContent: Answer = { status: 204, body: '' }

/** Seen without a body. */
export const notFound: Answer = { status: 404, body: '' }

export const invalidSignature = errorAnswer(403, 'ORIGIN_INVALID_SIGNATURE', 'invalid signature')

/** The types of 400 are not published; this one is invented. */
export function badRequest(description: string): Answer {
  return errorAnswer(400, 'ORIGIN_INVALID_DATA', description)
}
