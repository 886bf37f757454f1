import { expect } from 'vitest'
import { freePort } from '../free-port.ts'
import type { RunningService } from '../service.ts'
import { type Proxy, startProxy } from './proxy.ts'
import type { Stage } from './stage.ts'

type Name = 'first' | 'second' | 'worker'

/** Two receivers behind a proxy, and a worker. */
export interface Trio {
  proxy: Proxy
  /** Of the receivers. */
  ports: readonly [number, number]
  receivers(): RunningService[]
  /** Stops the one, orderly, and starts it with these settings on the same port. */
  restart(name: Name, settings: Record<string, string>): Promise<void>
}

/** Places for the three; nobody runs before the first `restart`. */
export async function setUpTrio(stack: AsyncDisposableStack, stage: Stage): Promise<Trio> {
  const ports = [await freePort(), await freePort()] as const
  const proxy = stack.use(await startProxy(ports))
  const running = new Map<Name, RunningService>()
  const places = {
    first: { ROLE: 'receiver', PORT: String(ports[0]) },
    second: { ROLE: 'receiver', PORT: String(ports[1]) },
    worker: { ROLE: 'worker', PORT: '0' },
  }
  return {
    proxy,
    ports,
    receivers: () => (['first', 'second'] as const).flatMap((name) => running.get(name) ?? []),
    async restart(name, settings) {
      const exit = await running.get(name)?.stop()
      if (exit !== undefined) expect(exit).toEqual({ code: 0, signal: null })
      running.set(name, await stage.start({ ...places[name], ...settings }))
    },
  }
}
