import { parseArgs } from 'node:util'
import { startSimulatedKommo } from './simulated-kommo.ts'

const usage = `A stand-in for Kommo's Chats API with generated conversations.

  --port N            where it listens (8080)
  --host NAME         127.0.0.1 unless given
  --conversations N   how many (40)
  --messages N        in each (120)
  --webhooks ADDRESS  where to send webhooks, with ":scope_id" in it; a manager then writes every --every seconds (5)

Prints one line of JSON: address, channel, secret, scope and the ids of the conversations.
`

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '8080' },
    host: { type: 'string', default: '127.0.0.1' },
    conversations: { type: 'string', default: '40' },
    messages: { type: 'string', default: '120' },
    webhooks: { type: 'string' },
    every: { type: 'string', default: '5' },
    help: { type: 'boolean', default: false },
  },
})

if (values.help) {
  process.stdout.write(usage)
} else {
  await run()
}

async function run(): Promise<void> {
  const kommo = await startSimulatedKommo({ port: Number(values.port), host: values.host })
  const conversations = Array.from({ length: Number(values.conversations) }, (_, seed) =>
    kommo.conversations.generate({ messages: Number(values.messages), seed }),
  )
  const { url, channelId, channelSecret, scopeId } = kommo
  const ids = conversations.map(({ id }) => id)
  process.stdout.write(`${JSON.stringify({ url, channelId, channelSecret, scopeId, conversations: ids })}\n`)

  let written = 0
  const writing =
    values.webhooks === undefined
      ? undefined
      : setInterval(
          () => {
            const conversation = conversations[written++ % conversations.length]
            void conversation?.managerWrites(`Message ${written} 👋`)
          },
          Number(values.every) * 1_000,
        )
  if (values.webhooks !== undefined) kommo.registerWebhookAddress(values.webhooks)

  const stop = (): void => {
    clearInterval(writing)
    void kommo.close()
  }
  process.once('SIGTERM', stop)
  process.once('SIGINT', stop)
}
