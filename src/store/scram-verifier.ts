import { createHash, createHmac, pbkdf2 } from 'node:crypto'
import { promisify } from 'node:util'

const ITERATIONS = 4096

/**
 * What Postgres keeps of a password (RFC 5803), made here, so that the password itself is in no statement: neither in
 * the server's log nor in `pg_stat_activity`.
 *
 * @param password printable ASCII, which every client encodes alike
 * @param salt 16 random bytes
 */
export async function scramVerifier(password: string, salt: Buffer): Promise<string> {
  const salted = await promisify(pbkdf2)(password, salt, ITERATIONS, 32, 'sha256')
  const hmac = (text: string) => createHmac('sha256', salted).update(text).digest()
  const storedKey = createHash('sha256').update(hmac('Client Key')).digest('base64')
  const serverKey = hmac('Server Key').toString('base64')
  return `SCRAM-SHA-256$${ITERATIONS}:${salt.toString('base64')}$${storedKey}:${serverKey}`
}
