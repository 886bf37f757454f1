#!/usr/bin/env -S node --max-semi-space-size=8 --heap-growing-percent=25
// The options, those of `npm start` too: garbage is collected before it has piled up (docs/benchmarks.md, Memory).
import { runCommandLine } from './command-line.ts'

await runCommandLine(process.argv.slice(2), process)
