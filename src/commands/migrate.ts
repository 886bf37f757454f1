import type { Config } from '../config.ts'
import { openDatabase } from '../services/database.ts'
import { migrate } from '../store/migrations/migrate.ts'
import { type Output, printJson } from './output.ts'

/** Brings the tables up to date; safe to run from several places at once. @param again also what has failed before */
export async function migrateDatabase(config: Config, again: boolean, output: Output): Promise<boolean> {
  await using opened = await openDatabase(config, output.log)
  const { applied } = await migrate(opened.database.url, { log: output.log, again })
  if (output.json) printJson(output, { applied })
  else if (applied.length === 0) output.out.write('The tables are up to date.\n')
  else
    output.out.write(
      `Applied ${applied.length} migration(s):\n${applied.map((name) => `  ${name}\n`).join('')}`,
    )
  return true
}
