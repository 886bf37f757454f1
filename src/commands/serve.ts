import closeWithGrace from 'close-with-grace'
import type { Config } from '../config.ts'
import { createLogger } from '../logger.ts'
import { openService } from '../services/service.ts'

const GRACE_MS = 10_000

/** Runs the service until a signal ends it; a second signal ends it at once. */
export async function serve(config: Config): Promise<void> {
  const log = createLogger(config.logLevel)
  const opening = openService(config, log)

  // Before anything is awaited: as process 1 of a container a signal without a handler would be ignored.
  const grace = closeWithGrace(
    { delay: config.drainDelayMs + GRACE_MS, logger: log },
    async ({ signal, err }) => {
      if (err) log.fatal({ err }, 'an error that nobody handled ends the service')
      else log.info({ signal }, 'stopping')
      const service = await opening.catch(() => null)
      await service?.[Symbol.asyncDispose]()
      log.info('stopped')
    },
  )

  try {
    const service = await opening
    const address = await service.app.listen({ host: config.host, port: config.port })
    log.info({ address, role: config.role, channels: config.channels.length }, 'listening')
  } catch (error) {
    // It would take the end of a start that failed for a normal one, with exit code 0.
    grace.uninstall()
    const service = await opening.catch(() => null)
    await service?.[Symbol.asyncDispose]()
    throw error
  }
}
