import type { SimulatedKommo } from '../simulated-kommo/simulated-kommo.ts'

/** Webhooks of one kind, and how the service answered them. */
export interface Sent {
  what: string
  count: number
  answer: number | null
}

/** Messages that the conversations hold before anybody writes. */
const SIZES = [0, 3, 12, 57, 120, 260]

/** A small company's day: old conversations, managers who answer, and a stranger who knocks without the secret. */
export async function scenario(kommo: SimulatedKommo, address: string): Promise<Sent[]> {
  const to = `${address}/webhooks/kommo/:scope_id`
  kommo.registerWebhookAddress(to)
  const conversations = SIZES.map((messages, seed) => kommo.conversations.generate({ messages, seed }))
  const newest = conversations[0]
  const busiest = conversations.at(-1)
  if (newest === undefined || busiest === undefined)
    throw new Error('unreachable: the sizes above are not empty')

  const written = await Promise.all(
    conversations.map((c) => c.managerWrites('Good morning! How can we help you? 👋')),
  )
  busiest.clientWrites('Could you send me the photo again?')
  const picture = await busiest.managerWrites({
    type: 'picture',
    text: 'Here it is',
    media: 'https://amojo.kommo.com/attachments/kitchen.jpg',
    thumbnail: 'https://amojo.kommo.com/attachments/kitchen_320x200.jpg',
    fileName: 'kitchen.jpg',
    fileSize: 284_113,
  })
  const typing = await kommo.webhooks.send(kommo.webhooks.typing(busiest), { to })
  const forged = await kommo.webhooks.send(kommo.webhooks.typing(newest), { to, signature: '0'.repeat(40) })

  return [
    { what: 'a manager writes', count: written.length, answer: written[0]?.status ?? null },
    { what: 'a manager sends a picture', count: 1, answer: picture?.status ?? null },
    { what: 'a manager types', count: 1, answer: typing.status },
    { what: 'somebody forges a signature', count: 1, answer: forged.status },
  ]
}
