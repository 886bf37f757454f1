import type { SimulatedKommo } from '../../src/simulated-kommo/simulated-kommo.ts'
import type { SignedWebhook } from '../../src/simulated-kommo/webhooks.ts'

/** Webhooks of messages that went out, the conversations by turns. */
export function makeWebhooks(
  kommo: SimulatedKommo,
  { conversations, webhooksEach }: { conversations: number; webhooksEach: number },
): SignedWebhook[] {
  const outgoing = Array.from({ length: conversations }, () => {
    const conversation = kommo.conversations.generate({ messages: webhooksEach * 4 + 20 })
    return conversation
      .page(0, conversation.size)
      .filter(({ receiver }) => receiver !== null)
      .slice(0, webhooksEach)
      .map((message) => kommo.webhooks.message(conversation, message))
  })
  return Array.from({ length: webhooksEach }, (_, turn) => outgoing.flatMap((of) => of[turn] ?? [])).flat()
}
