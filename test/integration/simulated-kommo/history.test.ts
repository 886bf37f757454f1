import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { startSimulatedKommo, type SimulatedKommo } from '../../../src/simulated-kommo/simulated-kommo.ts'
import type { MessageTruth } from '../../../src/simulated-kommo/truth.ts'
import { ask, historyAddress, readAll, type HistoryRecord } from './sign.ts'

let kommo: SimulatedKommo

beforeEach(async () => {
  kommo = await startSimulatedKommo()
})
afterEach(async () => {
  await kommo.close()
})

async function statusOf(address: string): Promise<number> {
  const response = await ask(kommo, 'GET', address)
  return response.status
}

describe('history', () => {
  test('the published request is accepted at its date, and each wrong signature refused', async () => {
    const accountId = '52fd2a28-d2eb-4bd8-b862-a67934927b38'
    const channel = {
      id: 'f62a0162-46a7-430e-b06c-0ef798d76a21',
      secret: 'fb50586ff7b68cd831fe0ef356345903f644c0d2',
    }
    await using published = await closing(
      startSimulatedKommo({ channels: [channel], now: () => new Date('2022-12-13T11:00:00Z') }),
    )
    const { scopeId } = published.kommo.account({ accountId })
    published.kommo.conversations.generate({
      messages: 3,
      scopeId,
      id: '30477717-9f3c-4d3f-8101-60327e14dc48',
    })

    const statusWith = async (signature: string): Promise<number> => {
      const response = await fetch(
        `${published.kommo.url}/v2/origin/custom/${scopeId}/chats/30477717-9f3c-4d3f-8101-60327e14dc48/history?limit=50&offset=0`,
        {
          headers: {
            Date: 'Tue, 13 Dec 2022 11:00:00 +0000',
            'Content-Type': 'application/json',
            'Content-MD5': 'd41d8cd98f00b204e9800998ecf8427e',
            'X-Signature': signature,
          },
        },
      )
      return response.status
    }
    expect(await statusWith('2a2593df86235c44943a40ce35409d18bda5778c')).toBe(200)
    for (const wrong of [
      '87ac67ccf0acc03c928758cdb1b0a11577b77b32',
      '0d151113cbf6f52a51b515e0aa0beb71503a2d69',
      'f1f594bf4abd9742eb49d282b6dbed9829bbece9',
      '4de5886ae6a62cb1898c71121ba0bd6eca209285',
      '910c92e4cba1af9aabe46372e7bbd2e6a73ae59b',
      '671ef40ae13edd0c67066fe84b3b974d9cefad69',
      '0ce87585671d672f651010b35de43657142fd411',
    ])
      expect(await statusWith(wrong)).toBe(403)
  })

  test('a wrong signature is answered with the envelope that was seen', async () => {
    const conversation = kommo.conversations.generate({ messages: 1 })
    const response = await ask(kommo, 'GET', historyAddress(conversation), { secret: 'another' })
    expect(response.status).toBe(403)
    expect(await response.json()).toEqual({
      status: 0,
      error_code: 403,
      error_type: 'ORIGIN_INVALID_SIGNATURE',
      error_description: 'invalid signature',
    })
    expect(kommo.stats.recent()[0]).toMatchObject({ status: 403, reason: 'X-Signature is wrong' })
  })

  test('pages hold every message once, newest first, and agree with the truth', async () => {
    const conversation = kommo.conversations.generate({ messages: 333, seed: 7 })
    const truths = [...conversation.truth()]
    const records = await readAll(kommo, conversation)
    expect(records.map(({ message }) => message.id)).toEqual(truths.map(({ id }) => id))
    expect(records.map(readRecord)).toEqual(truths.map(toldByHistory))
    const times = truths.map(({ sentAtMs }) => sentAtMs)
    expect(times).toEqual(times.toSorted((a, b) => b - a))
  })

  test('the truth of participants is what the newest records say, and what older ones add', async () => {
    const conversation = kommo.conversations.generate({ messages: 200, seed: 3 })
    const people = new Map<string, Record<string, string>>()
    const records = await readAll(kommo, conversation)
    for (const { sender, receiver } of records)
      for (const person of [sender, receiver ?? sender]) {
        const filled = Object.entries(person).filter(([, value]) => value !== '')
        people.set(person.id, { ...Object.fromEntries(filled), ...people.get(person.id) })
      }
    const truth = conversation.participants().map(({ id, clientId, name, phone, email, avatarUrl }) => {
      const named = { id, client_id: clientId, name, phone, email, avatar: avatarUrl }
      return Object.fromEntries(Object.entries(named).filter(([, value]) => value !== null))
    })
    expect(truth.toSorted(byId)).toEqual([...people.values()].toSorted(byId))
  })

  test('204 for an unknown chat, an empty one, one of another scope, and beyond the end', async () => {
    const { scopeId } = kommo
    const other = kommo.account({ accountId: '11111111-1111-4111-8111-111111111111' })
    const elsewhere = kommo.conversations.generate({ messages: 5, scopeId: other.scopeId })
    const conversation = kommo.conversations.generate({ messages: 5 })
    expect(await statusOf(historyAddress({ id: 'nobody', scopeId }))).toBe(204)
    expect(await statusOf(historyAddress(kommo.conversations.create()))).toBe(204)
    expect(await statusOf(historyAddress({ id: elsewhere.id, scopeId }))).toBe(204)
    expect(await statusOf(historyAddress(conversation, 'limit=50&offset=5'))).toBe(204)
    expect(await statusOf(historyAddress(conversation, 'limit=50&offset=4'))).toBe(200)
  })

  test.each(['limit=51', 'limit=0', 'limit=-1', 'limit=x', 'offset=-1', 'offset=1.5', 'offset='])(
    '400 for %s',
    async (query) => {
      expect(await statusOf(historyAddress(kommo.conversations.generate({ messages: 5 }), query))).toBe(400)
    },
  )

  test('404 without a body for an unknown channel, scope and address', async () => {
    const { channelId, scopeId } = kommo
    for (const address of [
      historyAddress({ id: 'any', scopeId: 'a0000000-0000-4000-8000-00000000000c_x' }),
      historyAddress({ id: 'any', scopeId: `${channelId}_x` }),
      `/v2/origin/custom/${scopeId}/chats/any`,
      '/',
    ]) {
      const response = await ask(kommo, 'GET', address)
      expect(response.status).toBe(404)
      expect(await response.text()).toBe('')
    }
  })

  test('changes between pages show at once', async () => {
    const conversation = kommo.conversations.generate({ messages: 60 })
    const [first, second, third] = [...conversation.messages()]
    const stop = kommo.faults.onHistoryRequest(({ offset, number }) => {
      expect(number).toBe(offset === 0 ? 1 : 2)
      if (offset === 0) return
      conversation.addMessage({ text: 'new' })
      conversation.importMessage({ sentAtMs: Date.UTC(2015, 0, 1), text: 'old' })
      conversation.removeMessage(third?.id ?? '')
      conversation.editMessage(second?.id ?? '', { text: 'edited' })
    })
    await ask(kommo, 'GET', historyAddress(conversation))
    await ask(kommo, 'GET', historyAddress(conversation, 'limit=50&offset=50'))
    stop()
    const records = await readAll(kommo, conversation)
    expect(records).toHaveLength(61)
    expect(records[0]?.message.text).toBe('new')
    expect(records[1]?.message.id).toBe(first?.id)
    expect(records[2]?.message.text).toBe('edited')
    expect(records.at(-1)?.message.text).toBe('old')
    expect(records.some(({ message }) => message.id === third?.id)).toBe(false)
  })

  test('any page of a million messages is there', async () => {
    const conversation = kommo.conversations.generate({ messages: 1_000_000 })
    const response = await ask(kommo, 'GET', historyAddress(conversation, 'limit=50&offset=999990'))
    const page: { messages: HistoryRecord[] } = JSON.parse(await response.text())
    expect(page.messages).toHaveLength(10)
  })
})

async function closing(starting: Promise<SimulatedKommo>) {
  const started = await starting
  return { kommo: started, [Symbol.asyncDispose]: () => started.close() }
}

function byId(a: Record<string, string | null>, b: Record<string, string | null>): number {
  return String(a['id']).localeCompare(String(b['id']))
}

function toldByHistory({
  extra,
  source: _source,
  scopeId: _scopeId,
  conversationId: _id,
  ...told
}: MessageTruth) {
  return { ...told, extra: extra.history }
}

/** A reading of the documentation that shares nothing with the service or the simulation. */
function readRecord({ timestamp, msec_timestamp: ms, sender, receiver, message }: HistoryRecord) {
  const { location, contact } = message
  const mediaGroupId = message.media_group_id ?? null
  const type = message.type
  return {
    id: message.id,
    clientId: message.client_id ?? null,
    senderId: sender.id,
    receiverId: receiver?.id ?? null,
    direction: receiver === undefined ? 'incoming' : 'outgoing',
    type,
    text: message.text || null,
    sentAtMs: ms ?? timestamp * 1_000,
    mediaGroupId,
    media: message.media
      ? {
          type,
          url: message.media,
          thumbnailUrl: message.thumbnail || null,
          fileName: message.file_name || null,
          fileSize: Number(message.file_size ?? 0) || null,
          mediaGroupId,
        }
      : null,
    extra: { ...(location && { location }), ...(contact && { contact }) },
  }
}
