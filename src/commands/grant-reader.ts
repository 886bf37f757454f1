import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import type { Config } from '../config.ts'
import { UsageError } from '../errors.ts'
import { openDatabase } from '../services/database.ts'
import { grantReader as grant } from '../store/readers.ts'
import { scramVerifier } from '../store/scram-verifier.ts'
import { type Output, printJson } from './output.ts'

export interface PasswordSource {
  /** A file whose first line it is. */
  file: string | null
  /** Standard input, where it is to be read from. */
  input: NodeJS.ReadableStream | null
}

/** Makes or updates a role that may read the tables and views and do nothing else. */
export async function grantReader(
  config: Config,
  name: string,
  source: PasswordSource,
  output: Output,
): Promise<boolean> {
  checkReaderName(name)
  const password = await readPassword(source)
  await using opened = await openDatabase(config, output.log)
  const verifier = password === null ? null : await scramVerifier(password, randomBytes(16))
  const granted = await grant(opened.database.pool, name, verifier)
  const { host, port } = connectionOf(opened.database.url)
  if (output.json) {
    printJson(output, { reader: name, ...granted, host, port })
    return true
  }
  const { created, database, readable, left } = granted
  output.out.write(
    `Role ${name} ${created ? 'was made' : 'is up to date'}: it may read the ${readable} tables and views of schema kommo ` +
      `in database ${database}, and those of later versions.\n` +
      left.map((what) => `Like every role it may still ${what}.\n`).join('') +
      `psql --host=${host} --port=${port} --username=${name} ${database}\n`,
  )
  return true
}

/** @throws UsageError */
export function checkReaderName(name: string): void {
  if (!/^[a-z_][a-z0-9_-]{0,62}$/.test(name) || /^pg_|^public$|^none$/.test(name)) {
    throw new UsageError(
      'the name of a reader must be small letters, digits, - and _, begin with a letter, have at most 63 characters, ' +
        'and not begin with pg_',
    )
  }
}

async function readPassword({ file, input }: PasswordSource): Promise<string | null> {
  if (file !== null && input !== null)
    throw new UsageError('give --password-file or --password-stdin, not both')
  if (file === null && input === null) return null
  const content = input === null ? await readPasswordFile(file ?? '') : await text(input)
  const password = content.replace(/\r?\n$/, '')
  if (!/^[\x20-\x7e]{8,256}$/.test(password)) {
    // Beyond ASCII, clients disagree on the bytes.
    throw new UsageError('the password must be one line of 8 to 256 printable ASCII characters')
  }
  return password
}

async function readPasswordFile(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new UsageError(
      `the password file cannot be read: ${error instanceof Error ? error.message : String(error)}`,
    )
  }
}

function connectionOf(url: string): { host: string; port: string } {
  const { hostname, port, searchParams } = new URL(url)
  return { host: searchParams.get('host') ?? hostname, port: port === '' ? '5432' : port }
}
