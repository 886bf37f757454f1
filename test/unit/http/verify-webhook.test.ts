import { createHmac } from 'node:crypto'
import { expect, test } from 'vitest'
import { readClaim, verifyWebhook } from '../../../src/http/verify-webhook.ts'
import { SCOPE } from '../../helpers/sighting.ts'

const channel = { id: SCOPE.slice(0, 36), secret: 'current-secret', previousSecret: 'previous-secret' }
const other = { id: 'ffffffff-5b7e-4c69-9a40-7d21e6b0f354', secret: 'other-secret', previousSecret: null }
const channels = [other, channel]
const body = Buffer.from('{"account_id":"1"}')

function judge(scopeId: string, signature: string | undefined) {
  return verifyWebhook(readClaim(channels, scopeId, signature), body)
}

function sign(secret: string, bytes: Uint8Array = body): string {
  return createHmac('sha1', secret).update(bytes).digest('hex')
}

test('the secret of the addressed channel signs', () => {
  const verdict = judge(SCOPE, sign('current-secret'))
  expect(verdict).toMatchObject({ kind: 'verified', channel })
})

test('the previous secret still signs', () => {
  expect(judge(SCOPE, sign('previous-secret')).kind).toBe('verified')
})

test('the case of the channel id in the address does not matter', () => {
  expect(judge(SCOPE.toUpperCase(), sign('current-secret')).kind).toBe('verified')
})

test('the account in the address proves nothing and is not asked for', () => {
  expect(judge(channel.id, sign('current-secret')).kind).toBe('verified')
})

test.each([
  ['no_signature', 'no signature', SCOPE, undefined],
  ['no_signature', 'an empty signature', SCOPE, ''],
  ['unknown_channel', 'a channel that is not ours', 'aaaaaaaa-0000_1', sign('current-secret')],
  ['unknown_channel', 'an address without a channel', '', sign('current-secret')],
  ['wrong_signature', "another channel's secret", SCOPE, sign('other-secret')],
  ['wrong_signature', 'another body', SCOPE, sign('current-secret', Buffer.from('{}'))],
  ['wrong_signature', 'a signature that is not hex', SCOPE, 'x'.repeat(40)],
  ['wrong_signature', 'a signature cut short', SCOPE, sign('current-secret').slice(0, 38)],
])('%s is the verdict on %s', (reason, _case, scopeId, signature) => {
  expect(judge(scopeId, signature)).toEqual({ kind: 'refused', reason })
})
