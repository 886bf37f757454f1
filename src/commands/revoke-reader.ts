import type { Config } from '../config.ts'
import { openDatabase } from '../services/database.ts'
import { revokeReader as revoke } from '../store/readers.ts'
import { checkReaderName } from './grant-reader.ts'
import { type Output, printJson } from './output.ts'

/** Takes from a reader what `grantReader` gave it, and removes the role. */
export async function revokeReader(config: Config, name: string, output: Output): Promise<boolean> {
  checkReaderName(name)
  await using opened = await openDatabase(config, output.log)
  const { dropped } = await revoke(opened.database.pool, name)
  if (output.json) printJson(output, { reader: name, dropped })
  else if (dropped) output.out.write(`Role ${name} is removed.\n`)
  else {
    output.out.write(
      `Role ${name} may read nothing of schema kommo any more. The role itself remains: it has rights elsewhere, ` +
        `or only an administrator may drop it.\n`,
    )
  }
  return true
}
