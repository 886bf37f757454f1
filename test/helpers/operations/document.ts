import { readFileSync } from 'node:fs'

export const OPERATIONS = readFileSync(new URL('../../../docs/operations.md', import.meta.url), 'utf8')

export interface Block {
  name: string
  language: string
  text: string
}

/** The fenced blocks that have a name (`<!-- run: NAME -->` before them), without their indentation. */
export function namedBlocks(): Block[] {
  const named = /^( *)<!-- run: (\S+) -->\n\n\1```(\w+)\n(.*?)^\1```$/gms
  return [...OPERATIONS.matchAll(named)].map(([, indent = '', name = '', language = '', text = '']) => ({
    name,
    language,
    text: text.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
  }))
}

/** What the document says under this name, with its examples replaced; each of them must be there. */
export function documented(name: string, replacements: Record<string, string> = {}): string {
  const block = namedBlocks().find((each) => each.name === name)
  if (block === undefined) throw new Error(`docs/operations.md has no block of the name ${name}`)
  let { text } = block
  for (const [example, value] of Object.entries(replacements)) {
    if (!text.includes(example)) throw new Error(`the block ${name} does not say ${example}`)
    text = text.replaceAll(example, value)
  }
  return text
}

/** The settings of a documented step. */
export function documentedSettings(
  name: string,
  replacements: Record<string, string>,
): Record<string, string> {
  return Object.fromEntries(
    documented(name, replacements)
      .trim()
      .split('\n')
      .map((line) => {
        const at = line.indexOf('=')
        return [line.slice(0, at), line.slice(at + 1)]
      }),
  )
}
