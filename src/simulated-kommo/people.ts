import { drawBelow, uuidOf, wordsOf } from './draw.ts'
import type { Person } from './message.ts'

/** Who writes in one conversation. */
export interface Cast {
  managers: readonly Person[]
  bot: Person
  client: Person
  /** The client before a change of name: older messages still show it, as Kommo's do. */
  clientBefore: Person
}

const clientNames = [
  'Inês Duarte',
  'João Araújo',
  'María Núñez',
  'Андрей Белов',
  'Ольга Смирнова',
  "Siobhan O'Neil",
  'Thiago Peçanha 🌿',
  'Lucía Ibáñez',
  'Emily Carter',
  'Гульнара',
]
const managerNames = ['Rita Mendes', 'Pablo Ortega', 'Ирина Ветрова', 'Tom Baker']

/** Three managers and the channel's bot, the same in every conversation of a scope. */
export function createStaff(scopeId: string): Pick<Cast, 'managers' | 'bot'> {
  const [seed] = wordsOf(scopeId)
  const first = drawBelow(managerNames.length, seed, 0, 0)
  const managers = [0, 1, 2].map((number) =>
    staffMember(`${scopeId}/manager/${number}`, pick(managerNames, first + number)),
  )
  return { managers, bot: staffMember(`${scopeId}/bot`, 'SalesBot') }
}

/** A client with an invented name, number and address; `before` carries the name from before. */
export function createClient(name: string, clientId: string | null): Pick<Cast, 'client' | 'clientBefore'> {
  const [seed, digits] = wordsOf(`${name}/client`)
  const fullName = pick(clientNames, drawBelow(clientNames.length, seed, 0, 1))
  const client: Person = {
    id: uuidOf(`${name}/client`),
    clientId,
    name: fullName,
    phone: `+1555${String(digits % 10_000_000).padStart(7, '0')}`,
    email: seed % 3 === 0 ? '' : `client.${digits % 100_000}@example.com`,
    avatar: seed % 2 === 0 ? '' : `https://example.com/avatars/${seed}.png`,
  }
  return { client, clientBefore: { ...client, name: fullName.split(' ')[0] ?? fullName } }
}

function staffMember(name: string, fullName: string): Person {
  return { id: uuidOf(name), clientId: null, name: fullName, phone: '', email: '', avatar: '' }
}

function pick(names: readonly string[], number: number): string {
  return names[number % names.length] ?? ''
}
