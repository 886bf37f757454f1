import { parseArgs } from 'node:util'
import { benches } from './benches.ts'
import { isMet } from './harness/bench.ts'
import { describeMachine } from './harness/machine.ts'
import { describeOutcome, describeRun } from './harness/print-outcome.ts'
import { openBenchServer } from './harness/server.ts'

const usage = `npm run bench [-- NAME…] [--smoke] [--json] [--rounds N] [--rows N] [--server URL]

  --smoke       a short run of each, which only shows that it works
  --json        one JSON document in place of the tables
  --rounds N    how often each side is measured (5)
  --rows N      messages in the large database of stored-messages (10000000: about 15 GB and 10 minutes)
  --server URL  a Postgres server that is there, in place of one started for the run; databases are made and dropped on it

${benches.map(({ name, question }) => `  ${name.padEnd(24)}${question}`).join('\n')}
`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    smoke: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '5' },
    rows: { type: 'string', default: '10000000' },
    server: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
const unknown = positionals.filter((wanted) => !benches.some(({ name }) => name === wanted))

if (values.help || unknown.length > 0) {
  process.stdout.write(unknown.length > 0 ? `There is no bench ${unknown.join(', ')}.\n\n${usage}` : usage)
  process.exitCode = values.help ? 0 : 2
} else {
  await run()
}

async function run(): Promise<void> {
  const { smoke, json } = values
  await using server = await openBenchServer(values.server)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void breakOff(server))
  const machine = await describeMachine(server.url)
  if (!json) process.stdout.write(`${describeRun(machine)}\n`)

  const outcomes: unknown[] = []
  for (const bench of benches) {
    if (positionals.length > 0 && !positionals.includes(bench.name)) continue
    const outcome = await bench.run({
      server,
      smoke,
      rounds: smoke ? 1 : Number(values.rounds),
      rows: smoke ? 2000 : Number(values.rows),
      say: (line) => void process.stderr.write(`${line}\n`),
    })
    if (!json) process.stdout.write(`${describeOutcome(bench, outcome)}\n`)
    const answers = outcome.answers.map((answer) => ({ ...answer, met: isMet(answer) }))
    outcomes.push({ name: bench.name, question: bench.question, ...outcome, answers })
  }
  if (json) process.stdout.write(`${JSON.stringify({ machine, smoke, outcomes }, null, 2)}\n`)
}

/** The server that was started for the run would go on without it; connections end under whoever uses them. */
async function breakOff(server: AsyncDisposable): Promise<void> {
  process.on('uncaughtException', () => {})
  await server[Symbol.asyncDispose]()
  process.exit(1)
}
