import type { JsonObject } from '../domain/json.ts'
import { draw, drawBelow, uuidFromWords, wordsOf } from './draw.ts'
import {
  emptyContent,
  type Content,
  type Person,
  type SimulatedMessage,
  type WebhookOnly,
} from './message.ts'
import type { Cast } from './people.ts'
import { phrases, type Language } from './phrases.ts'

/** Everything that decides a generated conversation: message i follows from it and from i alone. */
export interface Plot {
  name: string
  /** How many messages are generated; message 0 is the oldest. */
  count: number
  startMs: number
  /** Each message owns a slot of this length, so that times rise strictly and can be counted without a list. */
  stepMs: number
  language: Language
  cast: Cast
  seed: number
  idWords: readonly [number, number, number]
}

/** Room in a slot for a whole second on either side, which messages on a whole second need. */
export const shortestStepMs = 3_000

/** Numbers each decision, so that no two are drawn alike. */
const purpose = {
  time: 1,
  secondsOnly: 2,
  author: 3,
  type: 4,
  phrase: 5,
  second: 6,
  size: 7,
  quirks: 8,
  extras: 9,
  group: 10,
  idB: 11,
  idC: 12,
  idD: 13,
  caption: 14,
} as const

export function createPlot(
  options: Pick<Plot, 'name' | 'count' | 'startMs' | 'stepMs' | 'language' | 'cast'>,
): Plot {
  if (!Number.isSafeInteger(options.count) || options.count < 0)
    throw new RangeError('count must be 0 or a whole number above')
  if (options.stepMs < shortestStepMs) throw new RangeError(`stepMs must be at least ${shortestStepMs}`)
  const [seed, b, c, d] = wordsOf(options.name)
  return { ...options, seed, idWords: [b, c, d] }
}

/** When message `index` was sent: somewhere inside its slot, on a whole second where the history tells only seconds. */
export function sentAt(plot: Plot, index: number): number {
  const room = plot.stepMs - 2_000
  const at = plot.startMs + index * plot.stepMs + 1_000 + drawBelow(room, plot.seed, index, purpose.time)
  return isSecondsOnly(plot, index) ? at - (at % 1_000) : at
}

/** How many of the generated messages were sent at `ms` or before. */
export function countSentUpTo(plot: Plot, ms: number): number {
  const slot = Math.floor((ms - plot.startMs) / plot.stepMs)
  if (slot < 0) return 0
  if (slot >= plot.count) return plot.count
  return slot + (sentAt(plot, slot) <= ms ? 1 : 0)
}

/** Odd, so that multiplying is a permutation of 32 bits, which `idFactorInverse` undoes. */
const idFactor = 0x9e3779b1
const idFactorInverse = 0x0e8b2f51

/** The id of a message. Its first word holds the index in disguise: ids do not sort by age, and can be looked up. */
export function messageId(plot: Plot, index: number): string {
  const [b, c, d] = plot.idWords
  return uuidFromWords(
    (Math.imul(index, idFactor) ^ plot.seed) >>> 0,
    b ^ draw(plot.seed, index, purpose.idB),
    c ^ draw(plot.seed, index, purpose.idC),
    (d ^ draw(plot.seed, index, purpose.idD)) >>> 0,
  )
}

/** Which generated message has this id, or `undefined`. */
export function indexOfMessage(plot: Plot, id: string): number | undefined {
  const index = Math.imul(Number.parseInt(id.slice(0, 8), 16) ^ plot.seed, idFactorInverse) >>> 0
  return index < plot.count && messageId(plot, index) === id ? index : undefined
}

export function generateMessage(plot: Plot, index: number): SimulatedMessage {
  const group = mediaGroup(plot, index)
  const id = messageId(plot, index)
  const author = authorOf(plot, group?.first ?? index)
  const isIncoming = author === plot.cast.client
  const client = clientAt(plot, index)
  const quirks = draw(plot.seed, index, purpose.quirks)
  return {
    id,
    clientId: isIncoming || quirks % 23 === 0 ? `msg-${id.slice(0, 8)}-${index}` : null,
    sentAtMs: sentAt(plot, index),
    sender: isIncoming ? client : author,
    receiver: isIncoming ? null : client,
    ...content(plot, index, { id, isIncoming, groupId: group?.id ?? null }),
    quirks: {
      leavesOutEmpty: (quirks & 7) === 1,
      fileSizeAsText: (quirks & 0x70) === 0x10,
      secondsOnly: isSecondsOnly(plot, index),
      sparsePeople: (quirks & 0x700) === 0x100,
    },
    webhookOnly: () => (isIncoming ? { message: {}, source: null } : webhookOnly(plot, index)),
  }
}

function isSecondsOnly(plot: Plot, index: number): boolean {
  return draw(plot.seed, index, purpose.secondsOnly) % 16 === 0
}

/** Half of them by the client, one in eight by the bot, the rest by the conversation's usual manager or a colleague. */
function authorOf({ seed, cast }: Plot, index: number): Person {
  const chance = draw(seed, index, purpose.author)
  if ((chance & 1) === 0) return cast.client
  if ((chance & 0b110) === 0) return cast.bot
  const usual = (chance & 0b11000) === 0 ? 1 : 0
  return cast.managers[(seed + usual) % cast.managers.length] ?? cast.bot
}

/** Clients of longer conversations change their name half-way. */
function clientAt({ cast, count }: Plot, index: number): Person {
  return count >= 20 && index < count / 2 ? cast.clientBefore : cast.client
}

/** One block of eight messages in six holds a media group: its messages 2, 3 and sometimes 4. */
function mediaGroup(plot: Plot, index: number): { id: string; first: number } | undefined {
  const block = index >> 3
  const chance = draw(plot.seed, block, purpose.group)
  if (chance % 6 !== 0) return undefined
  const place = index & 7
  const size = chance & 0x100 ? 3 : 2
  if (place < 2 || place >= 2 + size) return undefined
  const [b, c, d] = plot.idWords
  return { id: uuidFromWords(chance, d ^ chance, b ^ block, (c ^ block) >>> 0), first: block * 8 + 2 }
}

interface ContentContext {
  id: string
  isIncoming: boolean
  groupId: string | null
}

function content(plot: Plot, index: number, { id, isIncoming, groupId }: ContentContext): Content {
  const text = (): string => phrase(plot, index, isIncoming)
  const caption = (): string => (draw(plot.seed, index, purpose.caption) % 3 === 0 ? text() : '')
  const file = (type: string, name: string, hasThumbnail: boolean): Content => {
    const size = draw(plot.seed, index, purpose.size)
    const base = `https://amojo.kommo.com/attachments/${id}/`
    const dot = name.lastIndexOf('.')
    return {
      ...emptyContent,
      type,
      text: caption(),
      media: base + name,
      thumbnail: hasThumbnail ? `${base}${name.slice(0, dot)}_320x200${name.slice(dot)}` : '',
      // Kommo sends an empty name and size with some links (documented sample).
      fileName: size % 19 === 0 ? '' : name,
      fileSize: size % 17 === 0 ? 0 : 1_000 + (size % 9_000_000),
      mediaGroupId: groupId,
    }
  }
  if (groupId !== null) return file('picture', `IMG_${index}.jpg`, true)
  const chance = drawBelow(100, plot.seed, index, purpose.type)
  if (chance < 68) return { ...emptyContent, text: text() }
  if (chance < 77) return file('picture', `foto ${index}.png`, true)
  if (chance < 82) return file('file', `Orçamento № ${index}.pdf`, false)
  if (chance < 87) return { ...file('voice', `voice_${index}.ogg`, false), text: '' }
  if (chance < 89) return file('audio', `audio_${index}.mp3`, false)
  if (chance < 92) return file('video', `video_${index}.mp4`, true)
  if (chance < 95) return { ...file('sticker', `sticker_${index}.webp`, false), text: '' }
  if (chance < 97 || !isIncoming) return { ...emptyContent, text: `${text()} ${text()}` }
  if (chance < 98) {
    const place = draw(plot.seed, index, purpose.size)
    const location = { lon: (place % 36_000) / 100 - 180, lat: (place % 17_000) / 100 - 85 }
    return { ...emptyContent, type: 'location', location }
  }
  const contact = { name: 'Dona Célia', phone: `+1555${String(1_000_000 + (index % 9_000_000))}` }
  return { ...emptyContent, type: 'contact', contact }
}

function phrase({ seed, language }: Plot, index: number, isIncoming: boolean): string {
  const choices = phrases[language][isIncoming ? 'client' : 'staff']
  const first = choices[drawBelow(choices.length, seed, index, purpose.phrase)] ?? ''
  const more = draw(seed, index, purpose.second)
  if (more % 4 !== 0) return first
  return `${first} ${choices[(more >>> 8) % choices.length] ?? ''}`
}

/** Two outgoing messages in three tell nothing more in the webhook; the rest show each of the documented fields. */
function webhookOnly(plot: Plot, index: number): WebhookOnly {
  const chance = draw(plot.seed, index, purpose.extras)
  const source = chance & 0x100 ? { external_id: '15550009999' } : null
  const none: WebhookOnly = { message: {}, source }
  switch (chance % 18) {
    case 0:
      return { message: { template: template(index) }, source }
    case 1:
      return { message: { markup: buttons(index) }, source }
    case 2:
      return { message: { markup: listMessage() }, source }
    case 3:
      return index === 0 ? none : { message: { reply_to: { message: embedded(plot, index - 1) } }, source }
    case 4:
      if (index === 0) return none
      return {
        message: {
          forwards: {
            messages: [embedded(plot, index - 1)],
            conversation_ref_id: uuidFromWords(plot.seed, ...plot.idWords),
          },
        },
        source,
      }
    case 5:
      return { message: { post: { id: `post-${index}` } }, source }
    default: {
      const isTimed = ['voice', 'audio', 'video'].includes(generateMessage(plot, index).type)
      return isTimed ? { message: { media_duration: 1 + (chance % 300) }, source } : none
    }
  }
}

function template(index: number): JsonObject {
  return {
    id: 7_000 + index,
    external_id: `tpl-${index}`,
    content: 'Pedido {{lead.name}}',
    params: [{ key: '{{lead.id}}', value: String(index) }],
  }
}

function buttons(index: number): JsonObject {
  return {
    mode: 'inline',
    buttons: [[{ text: 'Sim ✅' }, { text: 'Abrir', url: `https://example.com/o/${index}` }]],
  }
}

function listMessage(): JsonObject {
  const rows = [{ callback_data: 'abc123', title: 'Entrega', description: 'Prazos e valores' }]
  return {
    list_message: {
      header: 'Serviços',
      body: 'Escolha no menu',
      footer: 'Example Ltda',
      button: 'Menu',
      sections: [{ title: 'Loja', rows }],
    },
  }
}

/** A quoted or forwarded message as it stands inside another (people without phone and e-mail). */
function embedded(plot: Plot, index: number): JsonObject {
  const message = generateMessage(plot, index)
  return {
    id: message.id,
    ...(message.clientId === null ? {} : { msgid: message.clientId }),
    type: message.type,
    text: message.text,
    media: message.media,
    thumbnail: message.thumbnail,
    file_name: message.fileName,
    file_size: message.fileSize,
    timestamp: Math.floor(message.sentAtMs / 1_000),
    msec_timestamp: message.sentAtMs,
    sender: { id: message.sender.id, name: message.sender.name },
  }
}
