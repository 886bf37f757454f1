import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startSimulatedKommo, type SimulatedKommo } from '../../../src/simulated-kommo/simulated-kommo.ts'

interface Received {
  url: string | undefined
  headers: IncomingHttpHeaders
  body: Buffer
}

/** Answers every request with one status and keeps what came. */
async function startReceiver(status = 200) {
  const received: Received[] = []
  async function receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    received.push({ url: request.url, headers: request.headers, body: await buffer(request) })
    response.writeHead(status).end()
  }
  const server = createServer((request, response) => {
    void receive(request, response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    received,
    address: `http://127.0.0.1:${address.port}/webhooks/kommo/:scope_id`,
    async [Symbol.asyncDispose]() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}

let kommo: SimulatedKommo

beforeEach(async () => {
  kommo = await startSimulatedKommo({
    channels: [
      { id: 'f62a0162-46a7-430e-b06c-0ef798d76a21', secret: 'fb50586ff7b68cd831fe0ef356345903f644c0d2' },
    ],
  })
})
afterEach(async () => {
  await kommo.close()
})

const w1 =
  '{"account_id":"52fd2a28-d2eb-4bd8-b862-a67934927b38","time":1670930694,"message":{"conversation":{"id":"30477717-9f3c-4d3f-8101-60327e14dc48","client_id":"conv-1"},"timestamp":1670930693,"msec_timestamp":1670930693280,"message":{"id":"c57dae8e-de79-468b-a923-9a7c88c733d7","type":"text","text":"Hello"}}}'

test.each([
  [w1, 'cf176baaa7490e87cc3ac0b98ab6f568192ad240'],
  [`${w1}\n`, 'ae310a7ef84e29d376824fe9b1b656769eed3341'],
  ['{"message":{"message":{"text":"Olá 👋 Привет"}}}', '729b76505788ee51941d2846caef086aa4b66777'],
  ['', '5d43ebd6926d4f814a3c2f663141fc5a545d8878'],
])('bytes are signed as the computed vectors say (%#)', (bytes, signature) => {
  expect(kommo.webhooks.sign(kommo.scopeId, bytes).signature).toBe(signature)
})

test('escapes are part of the bytes that are signed', () => {
  const body = { message: { message: { text: 'Olá 👋', media: 'https://example.com/a.jpg' } } }
  const { signature, bytes } = kommo.webhooks.sign(kommo.scopeId, body)
  expect(signature).toBe('5bda833aee59f13c5d290c6751ea1bf51299496f')
  expect(kommo.webhooks.sign(kommo.scopeId, body, { escape: 'utf8' }).bytes.length).toBeLessThan(bytes.length)
})

test('a webhook arrives with its exact bytes, signature and user agent at the address of its scope', async () => {
  await using receiver = await startReceiver()
  const webhook = kommo.webhooks.sign(kommo.scopeId, w1)
  const delivery = await kommo.webhooks.send(webhook, { to: receiver.address })
  expect(delivery).toMatchObject({ status: 200, error: null, scopeId: kommo.scopeId })
  expect(delivery.durationMs).toBeGreaterThan(0)
  expect(receiver.received).toHaveLength(1)
  expect(receiver.received[0]?.url).toBe(`/webhooks/kommo/${kommo.scopeId}`)
  expect(receiver.received[0]?.body.toString()).toBe(w1)
  expect(receiver.received[0]?.headers).toMatchObject({
    'x-signature': 'cf176baaa7490e87cc3ac0b98ab6f568192ad240',
    'user-agent': 'amoCRM amoJo/1.0',
    'content-type': 'application/json',
  })
})

test('the signature can be wrong or missing', async () => {
  await using receiver = await startReceiver()
  const webhook = kommo.webhooks.sign(kommo.scopeId, w1)
  await kommo.webhooks.send(webhook, { to: receiver.address, signature: 'wrong' })
  await kommo.webhooks.send(webhook, { to: receiver.address, signature: null, headers: { 'X-Other': '1' } })
  expect(receiver.received.map(({ headers }) => headers['x-signature'])).toEqual(['wrong', undefined])
  expect(receiver.received[1]?.headers['x-other']).toBe('1')
})

test('a manager writes: history and one webhook; a client writes: history alone', async () => {
  await using receiver = await startReceiver()
  const conversation = kommo.conversations.create()
  expect(await conversation.managerWrites('before an address is registered')).toBeNull()
  kommo.registerWebhookAddress(receiver.address)
  await conversation.managerWrites({ text: 'Bom dia', webhookOnly: { template: { id: 1 } } })
  conversation.clientWrites('Olá')
  const [fromClient, fromManager] = [...conversation.truth()]
  expect(fromClient).toMatchObject({ text: 'Olá', direction: 'incoming' })
  expect(fromManager).toMatchObject({ direction: 'outgoing', extra: { webhook: { template: { id: 1 } } } })
  expect(receiver.received).toHaveLength(1)
  expect(JSON.parse(receiver.received[0]?.body.toString() ?? '')).toMatchObject({
    account_id: kommo.accountId,
    message: {
      conversation: { id: conversation.id },
      message: { id: fromManager?.id, text: 'Bom dia', template: { id: 1 } },
    },
  })
})

test('a refused or unreachable webhook is recorded and never sent again', async () => {
  const receiver = await startReceiver(503)
  kommo.registerWebhookAddress(receiver.address)
  const conversation = kommo.conversations.create()
  await conversation.managerWrites('one')
  await receiver[Symbol.asyncDispose]()
  await conversation.managerWrites('two')
  const [refused, unreachable] = kommo.webhooks.deliveries()
  expect(refused).toMatchObject({ status: 503, error: null })
  expect(unreachable).toMatchObject({ status: null })
  expect(unreachable?.error).toContain('ECONNREFUSED')
  expect(receiver.received).toHaveLength(1)
  expect(conversation.size).toBe(2)
})
