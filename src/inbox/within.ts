import { AppError } from '../errors.ts'

/** What was waited for may still happen; nobody waits for it any more. */
export class TooSlowError extends AppError {
  constructor(what: string, ms: number) {
    super(`${what} took longer than ${ms} ms`, { code: 'too_slow', retryable: true })
  }
}

/** @throws TooSlowError, or the signal's reason */
export async function within<T>(
  ms: number,
  what: string,
  work: Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const stop = () => reject(signal?.reason)
  signal?.addEventListener('abort', stop)
  const timer = setTimeout(() => reject(new TooSlowError(what, ms)), ms)
  try {
    return await Promise.race([work, promise])
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', stop)
  }
}
