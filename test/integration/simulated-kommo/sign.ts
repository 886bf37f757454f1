import { createHash, createHmac } from 'node:crypto'
import type { SimulatedKommo } from '../../../src/simulated-kommo/simulated-kommo.ts'

/** Asks the simulated Kommo as the documentation says, with code of its own. */
export async function ask(
  kommo: SimulatedKommo,
  method: string,
  address: string,
  { body = '', date = new Date(), secret = kommo.channelSecret, headers = {} }: AskOptions = {},
): Promise<Response> {
  const dateText = date.toUTCString().replace('GMT', '+0000')
  const md5 = createHash('md5').update(body).digest('hex')
  const path = address.replace(/\?.*/, '')
  const signed = [method, md5, 'application/json', dateText, path].join('\n')
  return await fetch(kommo.url + address, {
    method,
    headers: {
      Date: dateText,
      'Content-Type': 'application/json',
      'Content-MD5': md5,
      'X-Signature': createHmac('sha1', secret).update(signed).digest('hex'),
      ...headers,
    },
    ...(body === '' ? {} : { body }),
  })
}

export interface AskOptions {
  body?: string
  date?: Date
  secret?: string
  headers?: Record<string, string>
}

export function historyAddress(
  { id, scopeId }: { id: string; scopeId: string },
  query = 'limit=50&offset=0',
): string {
  return `/v2/origin/custom/${scopeId}/chats/${id}/history?${query}`
}

export interface HistoryRecord {
  timestamp: number
  msec_timestamp?: number
  sender: PersonRecord
  receiver?: PersonRecord
  message: {
    id: string
    client_id?: string
    type: string
    text?: string
    media?: string
    thumbnail?: string
    file_name?: string
    file_size?: number | string
    media_group_id?: string
    location?: { lon: number; lat: number }
    contact?: { name: string; phone: string }
  }
}

export interface PersonRecord {
  id: string
  client_id?: string
  name?: string
  phone?: string
  email?: string
  avatar?: string
}

/** Pages to the end. */
export async function readAll(
  kommo: SimulatedKommo,
  conversation: { id: string; scopeId: string },
): Promise<HistoryRecord[]> {
  const records: HistoryRecord[] = []
  for (;;) {
    const response = await ask(
      kommo,
      'GET',
      historyAddress(conversation, `limit=50&offset=${records.length}`),
    )
    if (response.status === 204) return records
    if (response.status !== 200) throw new Error(`history answered ${response.status}`)
    const page: { messages: HistoryRecord[] } = JSON.parse(await response.text())
    records.push(...page.messages)
  }
}
