export interface Figure {
  name: string
  unit: string
  median: number
  least: number
  most: number
  samples: readonly number[]
}

export function figure(name: string, unit: string, samples: readonly number[]): Figure {
  return {
    name,
    unit,
    samples,
    median: quantile(samples, 0.5),
    least: Math.min(...samples),
    most: Math.max(...samples),
  }
}

/** The share of the samples that lies at or below the result; `NaN` of none. */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN
}

/** One of the ways that are compared. */
export interface Side {
  name: string
  unit: string
  measure(): Promise<number>
  /** One for each round. */
  samples: number[]
}

export function side(name: string, unit: string, measure: () => Promise<number>): Side {
  return { name, unit, measure, samples: [] }
}

/**
 * Measures the sides in turn, round by round, so that whatever else the machine does meets all of them. Each round
 * begins with another side. A first round is not counted: code and caches are cold.
 */
export async function inTurns(sides: readonly Side[], rounds: number): Promise<void> {
  for (let round = 0; round <= rounds; round += 1) {
    const first = round % sides.length
    for (const { samples, measure } of [...sides.slice(first), ...sides.slice(0, first)]) {
      const sample = await measure()
      if (round > 0) samples.push(sample)
    }
  }
}

export const figureOf = ({ name, unit, samples }: Side): Figure => figure(name, unit, samples)

/** Round by round: what the machine did to one side in a round it did to the other too. */
export function ratioOf(above: Side, below: Side): Figure {
  const samples = above.samples.map((value, round) => value / (below.samples[round] ?? Number.NaN))
  return figure(`${above.name} / ${below.name}`, '', samples)
}
