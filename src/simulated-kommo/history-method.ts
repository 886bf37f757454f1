import { badRequest, jsonAnswer, noContent, type Answer } from './answer.ts'
import type { Conversation } from './conversation.ts'
import { historyRecord } from './history-record.ts'

/** Documented: 1 to 50. What Kommo does beyond is not documented; refusing finds the caller's mistake. */
const limitMax = 50

export interface Page {
  limit: number
  offset: number
}

/** The page that a query asks for, or what is wrong with it. The defaults are not documented. */
export function readPage(query: URLSearchParams): Page | { fault: string } {
  const limit = wholeNumber(query.get('limit') ?? String(limitMax))
  const offset = wholeNumber(query.get('offset') ?? '0')
  if (limit === null || limit < 1 || limit > limitMax) return { fault: `limit must be 1 to ${limitMax}` }
  if (offset === null) return { fault: 'offset must be a whole number' }
  return { limit, offset }
}

/** 204 for an unknown chat, an empty one, and beyond the end; they cannot be told apart (documented). */
export function answerHistory(
  conversation: Conversation | undefined,
  page: Page | { fault: string },
): Answer {
  if ('fault' in page) return badRequest(page.fault)
  const records = conversation?.page(page.offset, page.limit).map(historyRecord) ?? []
  return records.length === 0 ? noContent : jsonAnswer(200, { messages: records })
}

function wholeNumber(text: string): number | null {
  return /^\d{1,15}$/.test(text) ? Number(text) : null
}
