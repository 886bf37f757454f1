import { expect, test } from 'vitest'
import { formatScopeId, parseScopeId } from '../../../src/domain/scope.ts'

test('a scope is the channel, an underscore and the account', () => {
  expect(parseScopeId('channel_account')).toEqual({ channelId: 'channel', accountId: 'account' })
  expect(formatScopeId({ channelId: 'channel', accountId: 'account' })).toBe('channel_account')
})

test('everything behind the first underscore is the account', () => {
  expect(parseScopeId('channel_account_1')).toEqual({ channelId: 'channel', accountId: 'account_1' })
})

test.each([
  ['channel', { channelId: 'channel', accountId: '' }],
  ['channel_', { channelId: 'channel', accountId: '' }],
  ['_account', { channelId: '', accountId: 'account' }],
  ['', { channelId: '', accountId: '' }],
])('a part that is missing from "%s" is empty', (scopeId, scope) => {
  expect(parseScopeId(scopeId)).toEqual(scope)
})

test('parsing undoes formatting', () => {
  const scope = { channelId: 'c8a1f3d2-5b7e-4c69-9a40-7d21e6b0f354', accountId: 'with_underscore' }
  expect(parseScopeId(formatScopeId(scope))).toEqual(scope)
})
