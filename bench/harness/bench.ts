import type { BenchServer } from './server.ts'
import type { Figure } from './rounds.ts'

/** One question with an answer that can be measured. */
export interface Bench {
  name: string
  question: string
  run(context: BenchContext): Promise<Outcome>
}

export interface BenchContext {
  server: BenchServer
  /** A short run that only shows that the bench works; its figures say nothing. */
  smoke: boolean
  /** How often each side is measured, in turn. */
  rounds: number
  /** Messages in the large database of `stored-messages`. */
  rows: number
  /** Tells what goes on, for a person who waits. */
  say(line: string): void
}

export interface Outcome {
  settings: Record<string, string | number>
  figures: readonly Figure[]
  answers: readonly Answer[]
  /** What a reader must know to read the figures right. */
  notes?: readonly string[]
}

/** A figure that something is asked of. */
export interface Answer {
  question: string
  asked: { least: number } | { most: number }
  measured: Figure
}

export function isMet({ asked, measured }: Answer): boolean {
  return 'least' in asked ? measured.median >= asked.least : measured.median <= asked.most
}
