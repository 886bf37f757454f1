export interface AppErrorOptions {
  /** Stable, for logs, metrics and exit codes. */
  code: string
  /** Whether the same thing may succeed later, unchanged. */
  retryable: boolean
  /** Not before this many milliseconds, when the other side said so. */
  retryAfterMs?: number
  cause?: unknown
}

/** Says what failed, for which id, and what to do; never chat text, a secret or a signature. */
export class AppError extends Error {
  readonly code: string
  readonly retryable: boolean
  readonly retryAfterMs: number | undefined

  constructor(message: string, { code, retryable, retryAfterMs, cause }: AppErrorOptions) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = new.target.name
    this.code = code
    this.retryable = retryable
    this.retryAfterMs = retryAfterMs
  }
}

/** The configuration cannot be used: the process ends with exit code 2. */
export class ConfigError extends AppError {
  constructor(message: string) {
    super(message, { code: 'config', retryable: false })
  }
}

/** A command was called wrongly: exit code 2. */
export class UsageError extends AppError {
  constructor(message: string) {
    super(message, { code: 'usage', retryable: false })
  }
}
