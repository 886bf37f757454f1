import { expect, test } from 'vitest'
import { classifyAgain } from '../../../src/inbox/classify-again.ts'
import { fixtureBytes } from '../../helpers/fixture.ts'

const CHANNEL = 'c8a1f3d2-5b7e-4c69-9a40-7d21e6b0f354'
/** In the fixture. */
const ACCOUNT = '0b1c2d3e-1111-4a11-8a11-000000000001'

const stored = (known: { scopeId: string | null; body: Uint8Array }) => ({
  receiptId: 'receipt',
  receivedAt: new Date(0),
  ...known,
})
const body = fixtureBytes('webhook-text')
const nameless = Buffer.from('{}')

test.each([
  ['the account of the body wins', `${CHANNEL}_other`, body, null, `${CHANNEL}_${ACCOUNT}`],
  ['without one, the scope stays', `${CHANNEL}_other`, nameless, null, `${CHANNEL}_other`],
  ['without a scope, the only channel is taken', null, body, CHANNEL, `${CHANNEL}_${ACCOUNT}`],
  ['without a scope, and with several channels, none', null, body, null, null],
  ['without a scope and an account, none', null, nameless, CHANNEL, null],
])('%s', (_, scopeId, bytes, onlyChannelId, expected) => {
  const again = classifyAgain(stored({ scopeId, body: bytes }), onlyChannelId)
  expect(again.scopeId).toBe(expected)
  if (expected === null) expect(again.error).not.toBeNull()
})

test('what it carries is read from the body', () => {
  expect(classifyAgain(stored({ scopeId: `${CHANNEL}_${ACCOUNT}`, body }), null)).toMatchObject({
    kind: 'message',
    messageId: '0b1c2d3e-5555-4a55-8a55-000000000005',
    error: null,
  })
})
