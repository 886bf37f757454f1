import { request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'

export interface PostResult {
  /** `null` when no answer came. */
  status: number | null
  error: string | null
  durationMs: number
}

/**
 * POSTs bytes once and never fails: what went wrong is in the result. Each call has its own connection, so that a
 * receiver which restarts cannot lose a webhook to a connection kept from before.
 */
export function postOnce(
  address: string,
  body: Uint8Array,
  options: { headers: Record<string, string>; timeoutMs: number; signal: AbortSignal },
): Promise<PostResult> {
  const { headers, timeoutMs, signal } = options
  const startedAt = performance.now()
  return new Promise((resolve) => {
    const settle = (status: number | null, error: string | null): void => {
      clearTimeout(timer)
      resolve({ status, error, durationMs: performance.now() - startedAt })
    }
    const request = (address.startsWith('https:') ? requestHttps : requestHttp)(address, {
      method: 'POST',
      agent: false,
      headers: { ...headers, 'Content-Length': String(body.length) },
      signal,
    })
    const timer = setTimeout(() => {
      request.destroy(new Error(`no answer within ${timeoutMs} ms`))
    }, timeoutMs)
    request.on('error', (error) => {
      settle(null, error.message)
    })
    request.on('response', (response) => {
      response.on('error', (error) => {
        settle(null, error.message)
      })
      response.on('end', () => {
        settle(response.statusCode ?? null, null)
      })
      response.resume()
    })
    request.end(body)
  })
}
