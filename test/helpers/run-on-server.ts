import { Client } from 'pg'

/** One statement on a connection of its own, for what no transaction or pool may do: `CREATE DATABASE`, `DROP DATABASE`. */
export async function runOnServer(serverUrl: string, sql: string): Promise<void> {
  const client = new Client({ connectionString: serverUrl })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}
