import { expect, test } from 'vitest'
import type { InboxWebhook } from '../../../src/domain/webhook.ts'
import { recordBatch } from '../../../src/inbox/record-batch.ts'
import { createLogger } from '../../../src/logger.ts'
import { inboxWebhook } from '../../helpers/inbox.ts'

test('a database that is away is not asked for each webhook', async () => {
  const asked: number[] = []
  const record = (webhooks: readonly InboxWebhook[]) => {
    asked.push(webhooks.length)
    return Promise.reject(new Error('connection refused'))
  }
  const recording = recordBatch(record, [inboxWebhook(), inboxWebhook()], createLogger('silent'))
  await expect(recording).rejects.toThrow('connection refused')
  expect(asked).toEqual([2])
})
