import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { mergeMessages } from '../../../src/domain/merge.ts'
import type { Message } from '../../../src/domain/message.ts'
import { at, mediaSeen, messageSeen } from '../../helpers/sighting.ts'

function mergeMessage(older: Message, newer: Message): Message {
  const [merged] = mergeMessages([older, newer])
  if (merged === undefined) throw new Error('two sightings of one message are one message')
  return merged
}

describe('a message seen twice', () => {
  test('the newer value of a field wins', () => {
    const merged = mergeMessage(
      messageSeen({ text: 'before', observedAt: at(1) }),
      messageSeen({ text: 'after', observedAt: at(2) }),
    )
    expect(merged).toMatchObject({ text: 'after', observedAt: at(2) })
  })

  test('what the newer sighting does not know stays as it was', () => {
    const known = {
      clientId: 'client-side',
      senderId: 'sender',
      receiverId: 'receiver',
      direction: 'outgoing' as const,
      type: 'picture',
      text: 'known',
      sentAt: at(-5),
      mediaGroupId: 'album',
      media: mediaSeen(),
      extra: { location: { lat: 1 } },
    }
    const merged = mergeMessage(
      messageSeen({ ...known, observedAt: at(1) }),
      messageSeen({ observedAt: at(2) }),
    )
    expect(merged).toEqual(messageSeen({ ...known, observedAt: at(2) }))
  })

  test('extra merges key by key, and only at its top', () => {
    const merged = mergeMessage(
      messageSeen({ extra: { kept: 1, template: { id: 1, old: true } } }),
      messageSeen({ extra: { template: { id: 2 }, gained: null } }),
    )
    expect(merged.extra).toEqual({ kept: 1, template: { id: 2 }, gained: null })
  })

  test('the direction never goes back from outgoing', () => {
    const outgoing = messageSeen({ direction: 'outgoing', receiverId: 'receiver' })
    expect(mergeMessage(outgoing, messageSeen()).direction).toBe('outgoing')
    expect(mergeMessage(messageSeen(), outgoing).direction).toBe('outgoing')
    expect(mergeMessage(messageSeen(), messageSeen()).direction).toBe('incoming')
  })

  test('media merges field by field', () => {
    const merged = mergeMessage(
      messageSeen({ media: mediaSeen({ fileName: 'a.png', fileSize: 5, url: 'https://files.example/old' }) }),
      messageSeen({ media: mediaSeen({ fileSize: 6, url: 'https://files.example/new' }) }),
    )
    expect(merged.media).toEqual(
      mediaSeen({ fileName: 'a.png', fileSize: 6, url: 'https://files.example/new' }),
    )
  })
})

describe('several sightings', () => {
  const older = messageSeen({ text: 'before', clientId: 'client-side', observedAt: at(1) })
  const newer = messageSeen({ text: 'after', observedAt: at(2) })

  test.each([
    ['old to new', [older, newer]],
    ['new to old', [newer, older]],
  ])('fold into one row for one id, %s', (_order, sightings) => {
    expect(mergeMessages(sightings)).toEqual([{ ...newer, clientId: 'client-side' }])
  })

  test('the later one of two at the same moment wins', () => {
    const same = messageSeen({ text: 'later', observedAt: older.observedAt })
    expect(mergeMessages([older, same])[0]?.text).toBe('later')
  })

  test('of different ids stay apart, in the order of their first sighting', () => {
    const ids = ['b', 'a', 'b', 'c'].map((id) => messageSeen({ id }))
    expect(mergeMessages(ids).map(({ id }) => id)).toEqual(['b', 'a', 'c'])
  })

  test('of none are none', () => {
    expect(mergeMessages([])).toEqual([])
  })

  test('that are complete fold into the newest one, in whatever order they come', () => {
    const complete = fc.uniqueArray(fc.integer({ min: 0, max: 1000 }), { minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(complete, (moments) => {
        const sightings = moments.map((ms) => messageSeen({ text: `at ${ms}`, observedAt: at(ms) }))
        const [merged] = mergeMessages(sightings)
        expect(merged?.text).toBe(`at ${Math.max(...moments)}`)
      }),
    )
  })
})
