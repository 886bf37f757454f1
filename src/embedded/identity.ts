import { execFile } from 'node:child_process'
import { chown, lchown, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { EmbeddedPostgresError } from './errors.ts'

const run = promisify(execFile)

/** User and group `nobody` on Linux. */
const NOBODY = 65_534

const UNSHARE = ['unshare', '--user', `--map-user=${NOBODY}`, `--map-group=${NOBODY}`, '--']

/** How the server's programs are run, and whom its files belong to. */
export interface Identity {
  prefix: string[]
  /** Undefined: as this process. */
  owner: { uid: number; gid: number } | undefined
}

/**
 * Postgres refuses to run as root. For root it runs in a user namespace where root is called `nobody`: that enters
 * folders which only root may enter and leaves no user on the machine. Where a folder belongs to an ordinary user it
 * runs as that user; where there are no namespaces, as `nobody`.
 * @throws EmbeddedPostgresError when none of them can run the server.
 */
export async function chooseIdentity(dataDir: string, postgres: string): Promise<Identity> {
  if (process.getuid?.() !== 0) return { prefix: [], owner: undefined }

  const { uid, gid } = await stat(dataDir)
  if (uid !== 0) {
    const asOwner: Identity = { prefix: [], owner: { uid, gid } }
    const refusal =
      (await tryRun(asOwner, postgres, '--version')) ?? (await tryRun(asOwner, 'ls', '-d', `${dataDir}/.`))
    if (refusal === undefined) return asOwner
    throw cannotRun(`as the owner of ${dataDir} (user ${uid})`, refusal)
  }

  const inNamespace: Identity = { prefix: UNSHARE, owner: undefined }
  const refusal = await tryRun(inNamespace, postgres, '--version')
  if (refusal === undefined) return inNamespace

  // From now on the folder belongs to `nobody`, so the next start takes the branch above.
  const asNobody: Identity = { prefix: [], owner: { uid: NOBODY, gid: NOBODY } }
  await chown(dataDir, NOBODY, NOBODY)
  const secondRefusal =
    (await tryRun(asNobody, postgres, '--version')) ?? (await tryRun(asNobody, 'ls', '-d', `${dataDir}/.`))
  if (secondRefusal === undefined) return asNobody
  await chown(dataDir, 0, 0)
  throw cannotRun('as root', `${refusal}\n${secondRefusal}`)
}

function cannotRun(how: string, refusal: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `The embedded Postgres cannot run ${how}. Start the service as an ordinary user, ` +
      `or set DATABASE_URL to a PostgreSQL 15 or newer.\n${refusal}`,
  )
}

/** Why a program cannot be run under an identity. */
async function tryRun(identity: Identity, program: string, ...args: string[]): Promise<string | undefined> {
  const [file, ...rest] = [...identity.prefix, program, ...args]
  try {
    await run(file ?? program, rest, { ...identity.owner, cwd: '/' })
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message.trim() : String(error)
  }
}

/** Gives files that this process made to the server's user. */
export async function giveTo(identity: Identity, path: string): Promise<void> {
  if (identity.owner) await chown(path, identity.owner.uid, identity.owner.gid)
}

/** A folder that was filled under another identity (say, before `unshare` was installed) is handed over whole. */
export async function giveTreeTo(identity: Identity, folder: string): Promise<void> {
  if (process.getuid?.() !== 0) return
  const { uid, gid } = identity.owner ?? { uid: 0, gid: 0 }
  if ((await stat(folder)).uid === uid) return
  for (const entry of await readdir(folder, { recursive: true })) await lchown(join(folder, entry), uid, gid)
  await lchown(folder, uid, gid)
}
