// A process that migrates a database and prints what it applied; another folder of migrations may be given.
import { migrate } from '../../src/store/migrations/migrate.ts'

const [, , databaseUrl = '', migrationsDir] = process.argv
const options = migrationsDir === undefined ? {} : { migrationsDir }
process.stdout.write(JSON.stringify(await migrate(databaseUrl, options)))
