// A process that migrates a database and prints what it applied.
import { migrate } from '../../src/store/migrations/migrate.ts'

const [, , databaseUrl = ''] = process.argv
process.stdout.write(JSON.stringify(await migrate(databaseUrl)))
