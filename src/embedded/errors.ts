import { AppError } from '../errors.ts'

/** The embedded database could not be started or kept. */
export class EmbeddedPostgresError extends AppError {
  constructor(message: string, options: { retryable?: boolean; cause?: unknown } = {}) {
    super(message, { code: 'embedded_postgres', retryable: options.retryable ?? false, cause: options.cause })
  }
}
