import type { Channel } from '../domain/channel.ts'
import { parseScopeId } from '../domain/scope.ts'
import { type VerifiedSignature, verifyWebhookSignature } from '../kommo/signature.ts'

export type WebhookVerdict =
  | { kind: 'verified'; channel: Channel; signature: VerifiedSignature }
  | { kind: 'refused'; reason: 'unknown_channel' | 'no_signature' | 'wrong_signature' }

/**
 * Decides whether the bytes come from Kommo: the address names the channel, its secret signs the body. The rest of
 * the address is not signed and proves nothing.
 */
export function verifyWebhook(
  channels: readonly Channel[],
  scopeId: string,
  body: Uint8Array,
  signature: string | undefined,
): WebhookVerdict {
  if (signature === undefined || signature === '') return { kind: 'refused', reason: 'no_signature' }
  const { channelId } = parseScopeId(scopeId)
  const channel = channels.find(({ id }) => id === channelId)
  if (channel === undefined) return { kind: 'refused', reason: 'unknown_channel' }
  const verified = verifyWebhookSignature({ body, signature, channel })
  if (verified === null) return { kind: 'refused', reason: 'wrong_signature' }
  return { kind: 'verified', channel, signature: verified }
}
