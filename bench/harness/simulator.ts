import { z } from 'zod'
import { type Child, startChild } from './child.ts'

export interface Simulator {
  url: string
  channelId: string
  channelSecret: string
  scopeId: string
  /** Ids, in the order in which they were made. */
  conversations: string[]
}

const announced = z.object({
  url: z.string(),
  channelId: z.string(),
  channelSecret: z.string(),
  scopeId: z.string(),
  conversations: z.array(z.string()),
})

/** The simulated Kommo as a process of its own: it generates pages when asked, and takes no turn from what is measured. */
export async function startSimulator(options: {
  conversations: number
  messages: number
}): Promise<Simulator & AsyncDisposable> {
  const args = Object.entries({ port: 0, ...options }).flatMap(([name, value]) => [
    `--${name}`,
    String(value),
  ])
  const child: Child = await startChild('src/simulated-kommo/main.ts', { args })
  return { ...announced.parse(child.line), [Symbol.asyncDispose]: () => child[Symbol.asyncDispose]() }
}
