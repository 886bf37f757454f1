import { describe, expect, test } from 'vitest'
import { faultOfRequest, parseRfc2822 } from '../../../src/simulated-kommo/check-request.ts'

/** The vendor's published sample: vector 1 of the facts. */
const secret = 'fb50586ff7b68cd831fe0ef356345903f644c0d2'
const now = new Date('2022-12-13T11:00:00Z')
const published = {
  method: 'GET',
  path: '/v2/origin/custom/f62a0162-46a7-430e-b06c-0ef798d76a21_52fd2a28-d2eb-4bd8-b862-a67934927b38/chats/30477717-9f3c-4d3f-8101-60327e14dc48/history',
  headers: {
    date: 'Tue, 13 Dec 2022 11:00:00 +0000',
    'content-type': 'application/json',
    'content-md5': 'd41d8cd98f00b204e9800998ecf8427e',
    'x-signature': '2a2593df86235c44943a40ce35409d18bda5778c',
  },
  body: new Uint8Array(),
}

function withHeaders(headers: Record<string, string | undefined>) {
  return { ...published, headers: { ...published.headers, ...headers } }
}

describe('the signature check', () => {
  test('accepts the published history request', () => {
    expect(faultOfRequest(published, secret, now)).toBeNull()
  })

  test.each([
    ['query included', '87ac67ccf0acc03c928758cdb1b0a11577b77b32'],
    ['MD5 left empty', '0d151113cbf6f52a51b515e0aa0beb71503a2d69'],
    ['content type left empty', 'f1f594bf4abd9742eb49d282b6dbed9829bbece9'],
    ['GMT in place of +0000', '4de5886ae6a62cb1898c71121ba0bd6eca209285'],
    ['method in lower case', '910c92e4cba1af9aabe46372e7bbd2e6a73ae59b'],
    ['full address', '671ef40ae13edd0c67066fe84b3b974d9cefad69'],
    ['another order', '0ce87585671d672f651010b35de43657142fd411'],
    ['upper case', '2A2593DF86235C44943A40CE35409D18BDA5778C'],
  ])('refuses the signature that results from: %s', (_mistake, signature) => {
    const fault = faultOfRequest(withHeaders({ 'x-signature': signature }), secret, now)
    expect(fault).toBe('X-Signature is wrong')
  })

  test('accepts GMT where it is both sent and signed', () => {
    const request = withHeaders({
      date: 'Tue, 13 Dec 2022 11:00:00 GMT',
      'x-signature': '4de5886ae6a62cb1898c71121ba0bd6eca209285',
    })
    expect(faultOfRequest(request, secret, now)).toBeNull()
  })

  test.each(['date', 'content-md5', 'content-type', 'x-signature'])(
    'refuses a request without %s',
    (name) => {
      expect(faultOfRequest(withHeaders({ [name]: undefined }), secret, now)).toMatch(/^no .* header$/)
    },
  )

  test.each([
    [-15 * 60_000, null],
    [15 * 60_000, null],
    [-15 * 60_000 - 1, 'Date is more than 15 minutes away'],
    [15 * 60_000 + 1, 'Date is more than 15 minutes away'],
  ])('a date %i ms away gives %s', (skewMs, fault) => {
    expect(faultOfRequest(published, secret, new Date(now.getTime() + skewMs))).toBe(fault)
  })

  test('refuses another content type and an MD5 of something else', () => {
    const type = withHeaders({ 'content-type': 'application/json; charset=utf-8' })
    expect(faultOfRequest(type, secret, now)).toBe('Content-Type is not application/json')
    const body = { ...published, body: Buffer.from('{}') }
    expect(faultOfRequest(body, secret, now)).toBe('Content-MD5 is not that of the body')
  })
})

test.each([
  'Wed, 13 Dec 2022 11:00:00 +0000',
  'Tue, 31 Feb 2023 11:00:00 +0000',
  'Tue, 13 Dez 2022 11:00:00 +0000',
  '2022-12-13T11:00:00Z',
  'Tue, 13 Dec 2022 11:00:00 +0300',
  '',
])('%j is no date of RFC 2822 in UTC', (text) => {
  expect(parseRfc2822(text)).toBeNull()
})
