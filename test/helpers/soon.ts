/**
 * How long a test waits for what will come: a bound for machines that stand still for seconds, not a promise. vitest's own
 * bound is one second, too little for whatever depends on a process, a database or a poll.
 */
export const SOON = { timeout: 60_000, interval: 20 }
