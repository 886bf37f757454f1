import type { Channel } from '../domain/channel.ts'
import { parseScopeId } from '../domain/scope.ts'
import { type VerifiedSignature, verifyWebhookSignature } from '../kommo/signature.ts'

export interface Refusal {
  kind: 'refused'
  reason: 'unknown_channel' | 'no_signature' | 'wrong_signature'
}

/** What the head of a request claims: a channel of ours, and that its secret signed the body. */
export interface SignatureClaim {
  kind: 'claimed'
  channel: Channel
  signature: string
}

export type WebhookVerdict = { kind: 'verified'; channel: Channel; signature: VerifiedSignature } | Refusal

/** Decides what can be decided before the body is read: what claims nothing costs no more than its head. */
export function readClaim(
  channels: readonly Channel[],
  scopeId: string,
  signature: string | undefined,
): SignatureClaim | Refusal {
  if (signature === undefined || signature === '') return { kind: 'refused', reason: 'no_signature' }
  const { channelId } = parseScopeId(scopeId)
  const channel = channels.find(({ id }) => id === channelId)
  if (channel === undefined) return { kind: 'refused', reason: 'unknown_channel' }
  return { kind: 'claimed', channel, signature }
}

/**
 * Decides whether the bytes come from Kommo: the address names the channel, its secret signs the body. The rest of
 * the address is not signed and proves nothing.
 */
export function verifyWebhook(claim: SignatureClaim | Refusal, body: Uint8Array): WebhookVerdict {
  if (claim.kind === 'refused') return claim
  const { channel, signature } = claim
  const verified = verifyWebhookSignature({ body, signature, channel })
  if (verified === null) return { kind: 'refused', reason: 'wrong_signature' }
  return { kind: 'verified', channel, signature: verified }
}
