/**
 * For every answer: nothing here is a page, nothing may be kept, sniffed or framed. TLS, and with it HSTS, is the
 * business of the proxy in front.
 */
export const SECURITY_HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
}
