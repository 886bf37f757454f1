import { type DestinationStream, type Logger, pino } from 'pino'

/**
 * Logs carry ids, counts and durations; never message text, names, phones, e-mails, secrets or signatures. The code
 * does not log them; the redaction below is the second fence, for what a library's error may carry.
 */
const REDACTED = [
  'req.headers.authorization',
  'req.headers["x-signature"]',
  'err.config',
  'err.meta',
  'err.detail',
  'err.where',
  'err.parameters',
  'err.body',
]

export function createLogger(level: string, destination?: DestinationStream): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: REDACTED, censor: '[redacted]' },
      serializers: { err: serializeError },
    },
    destination ?? standardOutput(),
  )
}

/** Never waited for, so that a slow reader makes nobody wait; written out at the end. */
function standardOutput(): DestinationStream {
  const stream = pino.destination({ fd: 1, sync: false })
  const flush = stream.flushSync.bind(stream)
  // At the end a reader that has gone away would be one error more, and another exit code. sonic-boom 4, which pino asks
  // for, tries to reach it for ever: package.json has 5 in its place.
  stream.flushSync = () => {
    try {
      flush()
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EPIPE')) throw error
    }
  }
  return stream
}

interface SerializedError {
  type: string
  code?: string
  message: string
  stack?: string
  cause?: SerializedError
}

/**
 * A database's error text can quote the values that it refuses (`Key (id)=(…)`, `invalid input syntax … "…"`), so only
 * the messages of our own errors are shown whole; of others, the first line up to the first quoted value.
 */
function serializeError(error: unknown): SerializedError {
  if (!(error instanceof Error)) return { type: typeof error, message: '' }
  const code = 'code' in error && typeof error.code === 'string' ? error.code : undefined
  return {
    type: error.name,
    ...(code === undefined ? {} : { code }),
    message: 'retryable' in error ? error.message : withoutValues(error.message),
    stack: stackFrames(error),
    ...(error.cause === undefined ? {} : { cause: serializeError(error.cause) }),
  }
}

function withoutValues(message: string): string {
  return message.replaceAll(/(["'`(])[^"'`()]*(["'`)])/g, '$1…$2').slice(0, 500)
}

function stackFrames(error: Error): string {
  return (error.stack ?? '')
    .split('\n')
    .filter((line) => line.trimStart().startsWith('at '))
    .join('\n')
}
