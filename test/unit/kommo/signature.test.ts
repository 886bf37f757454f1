import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import {
  formatKommoDate,
  md5Hex,
  signRequest,
  signWebhook,
  verifyWebhookSignature,
} from '../../../src/kommo/signature.ts'

const HISTORY = {
  method: 'GET',
  contentMd5: 'd41d8cd98f00b204e9800998ecf8427e',
  contentType: 'application/json',
  date: 'Tue, 13 Dec 2022 11:00:00 +0000',
  path: '/v2/origin/custom/f62a0162-46a7-430e-b06c-0ef798d76a21_52fd2a28-d2eb-4bd8-b862-a67934927b38/chats/30477717-9f3c-4d3f-8101-60327e14dc48/history',
}
const HISTORY_SECRET = 'fb50586ff7b68cd831fe0ef356345903f644c0d2'
const HISTORY_SIGNATURE = '2a2593df86235c44943a40ce35409d18bda5778c'

describe('the history request that Kommo published', () => {
  test('has the published signature', () => {
    expect(signRequest(HISTORY, HISTORY_SECRET)).toBe(HISTORY_SIGNATURE)
  })

  test.each([
    [
      'query string included',
      { path: `${HISTORY.path}?limit=50&offset=0` },
      '87ac67ccf0acc03c928758cdb1b0a11577b77b32',
    ],
    ['MD5 left empty', { contentMd5: '' }, '0d151113cbf6f52a51b515e0aa0beb71503a2d69'],
    ['content type left empty', { contentType: '' }, 'f1f594bf4abd9742eb49d282b6dbed9829bbece9'],
    [
      'GMT in place of +0000',
      { date: 'Tue, 13 Dec 2022 11:00:00 GMT' },
      '4de5886ae6a62cb1898c71121ba0bd6eca209285',
    ],
    ['method in lower case', { method: 'get' }, '910c92e4cba1af9aabe46372e7bbd2e6a73ae59b'],
    [
      'full address',
      { path: `https://amojo.kommo.com${HISTORY.path}` },
      '671ef40ae13edd0c67066fe84b3b974d9cefad69',
    ],
    [
      'date before type before MD5',
      { contentMd5: HISTORY.date, date: HISTORY.contentMd5 },
      '0ce87585671d672f651010b35de43657142fd411',
    ],
  ])('gets another signature by the mistake: %s', (_mistake, mistaken, signature) => {
    const signed = signRequest({ ...HISTORY, ...mistaken }, HISTORY_SECRET)
    expect(signed).toBe(signature)
    expect(signed).not.toBe(HISTORY_SIGNATURE)
  })
})

const CHANNEL = '344a5002-f8ca-454d-af3d-396180102ac7'
const SCOPE = `${CHANNEL}_52e591f7-c98f-4255-8495-827210138c81`
const CUSTOM = '/v2/origin/custom'
const SECRET = 'f2d7f8704eff95087ed45b23ba99c0b5aac8278e'

const REQUESTS = [
  {
    request: `POST ${CUSTOM}/${CHANNEL}/connect`,
    date: 'Wed, 15 Dec 2021 23:12:55 +0000',
    md5: '2fbcb3c652b61e24e004daddfc73d0ce',
    signature: '81211856ce0c5095f3e1a90c0a38dc9d736cfd55',
    body: String.raw`{"account_id":"52e591f7-c98f-4255-8495-827210138c81","title":"ChatsIntegration","hook_api_version":"v2"}`,
  },
  {
    request: `DELETE ${CUSTOM}/${CHANNEL}/disconnect`,
    date: 'Wed, 15 Dec 2021 23:59:28 +0000',
    md5: '271fa2e4fb0ff84a3ef9689027bd1f38',
    signature: 'e1678e3b6aa674b5127f4feb448e6200ce0bfc72',
    body: String.raw`{"account_id":"52e591f7-c98f-4255-8495-827210138c81"}`,
  },
  {
    request: `POST ${CUSTOM}/${SCOPE}/079e44fb-fc22-476b-9e8a-421b688ec53b/delivery_status`,
    date: 'Thu, 16 Dec 2021 12:58:40 +0000',
    md5: 'a0bbbac729c6341f0a521e2db7a8a236',
    signature: 'ca51f810785031385a801f41103244713c1a2352',
    body: String.raw`{"msgid":"079e44fb-fc22-476b-9e8a-421b688ec53b","delivery_status":2,"error_code":905,"error":"Error text"}`,
  },
  {
    request: `POST ${CUSTOM}/${SCOPE}/typing`,
    date: 'Thu, 16 Dec 2021 16:01:21 +0000',
    md5: '255a22566d68be207fa36804e78a523a',
    signature: 'e8263b1daf2b20396c02db6c8c846f95cc0f9540',
    body: String.raw`{"conversation_id":"my_int-d5a421f7f218","sender":{"id":"my_int-1376265f-86df-4c49-a0c3-a4816df41af8"}}`,
  },
  {
    request: `POST ${CUSTOM}/${SCOPE}/chats`,
    date: 'Thu, 16 Dec 2021 23:22:49 +0000',
    md5: '5139e573382c0eae38f476822abb2014',
    signature: 'a601e486d694c8e7e8a5b637660f949f8bb7efaf',
    body: String.raw`{"conversation_id":"my_int-8e3e7640-49af-4448-a2c6-d5a421f7f217","source":{"external_id":"78001234567"},"user":{"id":"my_int-1376265f-86df-4c49-a0c3-a4816df41af9","avatar":"https:\/\/example.com\/users\/avatar.png","name":"\u0418\u043c\u044f \u043a\u043b\u0438\u0435\u043d\u0442\u0430","profile":{"phone":"+79151112233","email":"example.client@example.com"},"profile_link":"https:\/\/example.com\/profile\/example.client"}}`,
  },
  {
    request: `POST ${CUSTOM}/${SCOPE}`,
    date: 'Thu, 16 Dec 2021 13:15:29 +0000',
    md5: '223ef85def871bc7cb58aa6f02f0a26e',
    signature: '29b49e9eaf03f13a66ecaff315f2855b31b25eee',
    body: String.raw`{"event_type":"new_message","payload":{"timestamp":1639660529,"msec_timestamp":1639660529379,"msgid":"my_int-5f2836a8ca481","conversation_id":"my_int-d5a421f7f218","sender":{"id":"my_int-1376265f-86df-4c49-a0c3-a4816df41af8","avatar":"https:\/\/images.pexels.com\/photos\/10050979\/pexels-photo-10050979.jpeg?auto=compress&cs=tinysrgb&dpr=2&w=500","profile":{"phone":"+79151112233","email":"example.client@example.com"},"profile_link":"https:\/\/example.com\/profile\/example.client","name":"\u0412\u0430\u0441\u044f \u043a\u043b\u0438\u0435\u043d\u0442"},"message":{"type":"text","text":"\u0421\u043e\u043e\u0431\u0449\u0435\u043d\u0438\u0435 \u043e\u0442 \u043a\u043b\u0438\u0435\u043d\u0442\u0430"},"silent":false}}`,
  },
  {
    request: `POST ${CUSTOM}/${SCOPE}`,
    date: 'Fri, 17 Dec 2021 10:59:28 +0000',
    md5: '353178c993f09a8ec5f3eab4093b753e',
    signature: 'e895539b52051e1a8d3f89d454c7ad7406705234',
    body: String.raw`{"event_type":"new_message","payload":{"timestamp":1639738768,"msec_timestamp":1639738768457,"msgid":"my_int-5f2836a8ca481","conversation_id":"my_int-d5a421f7f218","sender":{"id":"my_int-1376265f-86df-4c49-a0c3-a4816df41af8","avatar":"https:\/\/images.pexels.com\/photos\/10050979\/pexels-photo-10050979.jpeg?auto=compress&cs=tinysrgb&dpr=2&w=500","profile":{"phone":"+79151112233","email":"example.client@example.com"},"profile_link":"https:\/\/example.com\/profile\/example.client","name":"\u0412\u0430\u0441\u044f \u043a\u043b\u0438\u0435\u043d\u0442"},"message":{"type":"text","text":"\u0421\u043e\u043e\u0431\u0449\u0435\u043d\u0438\u0435 \u043e\u0442 \u043a\u043b\u0438\u0435\u043d\u0442\u0430"},"source":{"external_id":"79039876543"},"silent":false}}`,
  },
  {
    request: `POST ${CUSTOM}/f90ba33d-c9d9-44da-b76c-c349b0ecbe41/connect`,
    date: 'Thu, 29 Oct 2020 11:59:55 +0000',
    md5: 'a5e8ae04332a6d0aac15f01ad05d40e3',
    signature: 'e0dcc1936d766a7d5f53fe19887fafa50bef92e0',
    secret: '5a44c5dff55f3c15a4cce8d7c4cc27e207c7e189',
    body: String.raw`{"account_id":"af9945ff-1490-4cad-807d-945c15d88bec","title":"ScopeTitle","hook_api_version":"v2"}`,
  },
]

test.each(REQUESTS)(
  '$request at $date is signed as published',
  ({ request, date, md5, signature, secret, body }) => {
    const [method = '', path = ''] = request.split(' ')
    const contentMd5 = md5Hex(body)
    expect(contentMd5).toBe(md5)
    expect(
      signRequest({ method, contentMd5, contentType: 'application/json', date, path }, secret ?? SECRET),
    ).toBe(signature)
  },
)

describe('the date of a request', () => {
  const at = new Date('2022-12-13T11:00:00.999Z')

  test('is RFC 2822 in UTC with a numeric zone', () => {
    expect(formatKommoDate(at)).toBe('Tue, 13 Dec 2022 11:00:00 +0000')
    expect(formatKommoDate(new Date(0))).toBe('Thu, 01 Jan 1970 00:00:00 +0000')
  })

  test.each([
    ['America/Sao_Paulo', 'pt_BR.UTF-8'],
    ['Asia/Kolkata', 'hi_IN.UTF-8'],
    ['Pacific/Kiritimati', 'ru_RU.UTF-8'],
  ])('does not depend on the zone %s or the locale %s', (zone, locale) => {
    const signature = new URL('../../../src/kommo/signature.ts', import.meta.url).href
    const program = `import { formatKommoDate } from ${JSON.stringify(signature)}
      process.stdout.write(formatKommoDate(new Date(${at.getTime()})) + new Date(0).getTimezoneOffset())`
    const run = spawnSync(process.execPath, ['--input-type=module', '--eval', program], {
      env: { PATH: process.env['PATH'], TZ: zone, LANG: locale, LC_ALL: locale },
      encoding: 'utf8',
    })
    expect(run.stdout).toMatch(/^Tue, 13 Dec 2022 11:00:00 \+0000-?[1-9]\d+$/)
  })
})

describe('the signature of a webhook', () => {
  const W1 =
    '{"account_id":"52fd2a28-d2eb-4bd8-b862-a67934927b38","time":1670930694,"message":{"conversation":{"id":"30477717-9f3c-4d3f-8101-60327e14dc48","client_id":"conv-1"},"timestamp":1670930693,"msec_timestamp":1670930693280,"message":{"id":"c57dae8e-de79-468b-a923-9a7c88c733d7","type":"text","text":"Hello"}}}'
  const W1_SIGNATURE = 'cf176baaa7490e87cc3ac0b98ab6f568192ad240'
  const channel = { id: CHANNEL, secret: HISTORY_SECRET, previousSecret: null }
  const rotating = { id: CHANNEL, secret: SECRET, previousSecret: HISTORY_SECRET }
  const verify = (
    text: string,
    signature: string | undefined,
    of: typeof channel | typeof rotating = channel,
  ) => verifyWebhookSignature({ body: Buffer.from(text), signature, channel: of })

  test.each([
    ['W1', W1, 304, W1_SIGNATURE],
    ['W1 and a line feed', `${W1}\n`, 305, 'ae310a7ef84e29d376824fe9b1b656769eed3341'],
    ['W1 and CR LF', `${W1}\r\n`, 306, '0ee02598d2a3fecf05db7c1f45c12bdbedf781a2'],
    [
      'raw UTF-8',
      '{"message":{"message":{"text":"Olá 👋 Привет"}}}',
      57,
      '729b76505788ee51941d2846caef086aa4b66777',
    ],
    [
      'escapes',
      String.raw`{"message":{"message":{"text":"Ol\u00e1 \ud83d\udc4b","media":"https:\/\/example.com\/a.jpg"}}}`,
      95,
      '5bda833aee59f13c5d290c6751ea1bf51299496f',
    ],
    ['no bytes', '', 0, '5d43ebd6926d4f814a3c2f663141fc5a545d8878'],
  ])('is the one computed elsewhere for %s', (_name, text, length, signature) => {
    const body = Buffer.from(text)
    expect(body).toHaveLength(length)
    expect(signWebhook(body, HISTORY_SECRET)).toBe(signature)
    expect(verify(text, signature)).toEqual({ secret: 'current', trimmed: false })
    expect(verify(text, signature.toUpperCase())).toEqual({ secret: 'current', trimmed: false })
  })

  test.each([['\n'], ['\r\n'], ['\r'], ['\n\n']])('may leave out a final line break %j', (end) => {
    expect(verify(`${W1}${end}`, W1_SIGNATURE)).toEqual({ secret: 'current', trimmed: true })
    expect(verify(`${W1}${end}`, W1_SIGNATURE, rotating)).toEqual({ secret: 'previous', trimmed: true })
  })

  test('fits the previous secret while the secret is being rotated', () => {
    expect(verify(W1, W1_SIGNATURE, rotating)).toEqual({ secret: 'previous', trimmed: false })
    expect(verify(W1, signWebhook(Buffer.from(W1), SECRET), rotating)).toEqual({
      secret: 'current',
      trimmed: false,
    })
  })

  test.each([
    ['no signature', undefined],
    ['an empty one', ''],
    ['one that is too short', W1_SIGNATURE.slice(1)],
    ['one that is too long', `${W1_SIGNATURE}0`],
    ['one with a line break', `${W1_SIGNATURE}\n`],
    ['one that is not hex', W1_SIGNATURE.replace('c', 'g')],
    ['the one of another body', 'ae310a7ef84e29d376824fe9b1b656769eed3341'],
    ['the one of another secret', signWebhook(Buffer.from(W1), SECRET)],
    ['the one of an empty secret', signWebhook(Buffer.from(W1), '')],
  ])('is refused: %s', (_name, signature) => {
    expect(verify(W1, signature)).toBeNull()
  })

  test.each([[`${W1} `], [` ${W1}`], [`\n${W1}`], [W1.slice(0, -1)]])(
    'is refused over changed bytes',
    (text) => {
      expect(verify(text, W1_SIGNATURE)).toBeNull()
    },
  )
})
