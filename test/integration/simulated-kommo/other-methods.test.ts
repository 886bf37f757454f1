import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { startSimulatedKommo, type SimulatedKommo } from '../../../src/simulated-kommo/simulated-kommo.ts'
import { ask, readAll } from './sign.ts'

describe('requests published by the vendor', () => {
  const channel = {
    id: '344a5002-f8ca-454d-af3d-396180102ac7',
    secret: 'f2d7f8704eff95087ed45b23ba99c0b5aac8278e',
  }
  const accountId = '52e591f7-c98f-4255-8495-827210138c81'
  const scope = `${channel.id}_${accountId}`
  const bodies = {
    connect: `{"account_id":"${accountId}","title":"ChatsIntegration","hook_api_version":"v2"}`,
    disconnect: `{"account_id":"${accountId}"}`,
    status:
      '{"msgid":"079e44fb-fc22-476b-9e8a-421b688ec53b","delivery_status":2,"error_code":905,"error":"Error text"}',
    typing:
      '{"conversation_id":"my_int-d5a421f7f218","sender":{"id":"my_int-1376265f-86df-4c49-a0c3-a4816df41af8"}}',
  }

  test.each([
    [
      'POST',
      `${channel.id}/connect`,
      'Wed, 15 Dec 2021 23:12:55 +0000',
      bodies.connect,
      '2fbcb3c652b61e24e004daddfc73d0ce',
      '81211856ce0c5095f3e1a90c0a38dc9d736cfd55',
      200,
    ],
    [
      'DELETE',
      `${channel.id}/disconnect`,
      'Wed, 15 Dec 2021 23:59:28 +0000',
      bodies.disconnect,
      '271fa2e4fb0ff84a3ef9689027bd1f38',
      'e1678e3b6aa674b5127f4feb448e6200ce0bfc72',
      200,
    ],
    [
      'POST',
      `${scope}/079e44fb-fc22-476b-9e8a-421b688ec53b/delivery_status`,
      'Thu, 16 Dec 2021 12:58:40 +0000',
      bodies.status,
      'a0bbbac729c6341f0a521e2db7a8a236',
      'ca51f810785031385a801f41103244713c1a2352',
      404,
    ],
    [
      'POST',
      `${scope}/typing`,
      'Thu, 16 Dec 2021 16:01:21 +0000',
      bodies.typing,
      '255a22566d68be207fa36804e78a523a',
      'e8263b1daf2b20396c02db6c8c846f95cc0f9540',
      204,
    ],
  ])('%s %s', async (method, path, date, body, md5, signature, status) => {
    const kommo = await startSimulatedKommo({ channels: [channel], now: () => new Date(date) })
    kommo.account({ accountId })
    const send = (sentSignature: string): Promise<Response> =>
      fetch(`${kommo.url}/v2/origin/custom/${path}`, {
        method,
        body,
        headers: {
          Date: date,
          'Content-Type': 'application/json',
          'Content-MD5': md5,
          'X-Signature': sentSignature,
        },
      })
    expect((await send(signature)).status).toBe(status)
    expect((await send(signature.replace(/^./, 'x'))).status).toBe(403)
    await kommo.close()
  })
})

describe('an integration of one channel', () => {
  let kommo: SimulatedKommo

  beforeEach(async () => {
    kommo = await startSimulatedKommo()
  })
  afterEach(async () => {
    await kommo.close()
  })

  const post = (path: string, body: object, method = 'POST'): Promise<Response> =>
    ask(kommo, method, `/v2/origin/custom/${path}`, { body: JSON.stringify(body) })

  test('connects an account, which may then be asked about, and disconnects it', async () => {
    const account = { account_id: '22222222-2222-4222-8222-222222222222' }
    const scopeId = `${kommo.channelId}_${account.account_id}`
    const typing = { conversation_id: 'conv-1', sender: { id: 'client-1' } }
    expect((await post(`${scopeId}/typing`, typing)).status).toBe(404)
    expect(await (await post(`${kommo.channelId}/connect`, account)).json()).toMatchObject({
      scope_id: scopeId,
    })
    expect((await post(`${scopeId}/typing`, typing)).status).toBe(204)
    expect((await post(`${kommo.channelId}/disconnect`, account, 'DELETE')).status).toBe(200)
    expect((await post(`${scopeId}/typing`, typing)).status).toBe(404)
  })

  test('the same conversation_id gives the same chat', async () => {
    const chat = { conversation_id: 'conv-1', user: { id: 'client-1', name: 'Client One' } }
    const first: unknown = await (await post(`${kommo.scopeId}/chats`, chat)).json()
    expect(first).toMatchObject({ user: { client_id: 'client-1', name: 'Client One' } })
    expect(await (await post(`${kommo.scopeId}/chats`, chat)).json()).toEqual(first)
  })

  test('a message from the client is in the history once, and can be edited', async () => {
    const message = newMessage({
      msgid: 'msg-1',
      msec_timestamp: 1_700_000_000_123,
      message: { type: 'text', text: 'Hi' },
    })
    const sent = await post(kommo.scopeId, message)
    expect(await sent.json()).toMatchObject({ new_message: { ref_id: 'msg-1', receiver_id: null } })
    expect((await post(kommo.scopeId, message)).status).toBe(400)
    const edit = { conversation_id: 'conv-1', msgid: 'msg-1', message: { type: 'text', text: 'Hi there' } }
    expect((await post(kommo.scopeId, { event_type: 'edit_message', payload: edit })).status).toBe(200)

    const id = kommo.conversations.byClientId(kommo.scopeId, 'conv-1')?.id ?? ''
    const [record, ...rest] = await readAll(kommo, { id, scopeId: kommo.scopeId })
    expect(rest).toEqual([])
    expect(record).toMatchObject({
      msec_timestamp: 1_700_000_000_123,
      sender: { client_id: 'client-1', name: 'Client One' },
      message: { client_id: 'msg-1', text: 'Hi there' },
    })
    const messageId = record?.message.id
    expect((await post(`${kommo.scopeId}/${messageId}/delivery_status`, { status_code: 1 })).status).toBe(200)
    const reaction = { conversation_id: 'conv-1', id: messageId, type: 'react', emoji: '👍' }
    expect((await post(`${kommo.scopeId}/react`, reaction)).status).toBe(200)
    expect((await post(`${kommo.scopeId}/react`, { ...reaction, id: 'other' })).status).toBe(404)
  })

  test('the client of a chat begun in Kommo gets the integration-side ids with the first answer', async () => {
    const conversation = kommo.conversations.create({ clientId: null })
    await conversation.managerWrites('Good day')
    await post(
      kommo.scopeId,
      newMessage({ msgid: 'msg-1', conversation_ref_id: conversation.id, message: { text: 'Hi' } }),
    )
    expect(conversation.clientId).toBe('conv-1')
    expect(conversation.size).toBe(2)
    expect(conversation.participants()).toContainEqual(expect.objectContaining({ clientId: 'client-1' }))
  })
})

function newMessage(payload: object): object {
  const sender = { id: 'client-1', name: 'Client One' }
  return { event_type: 'new_message', payload: { conversation_id: 'conv-1', sender, ...payload } }
}
