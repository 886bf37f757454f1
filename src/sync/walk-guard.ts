import type { Walk } from '../domain/conversation.ts'
import { KommoPayloadError } from '../kommo/errors.ts'
import type { WalkStep } from './walk-step.ts'

/** Sees to it that a walk gets further. */
export interface WalkGuard {
  /** How often the walk has stepped back in a row. */
  readonly stepsBack: number
  /**
   * Takes note of the step that a page led to.
   * @param hasNews the page held a record that the one before did not
   * @throws KommoPayloadError when the list cannot be paged now
   */
  check(walk: Walk, step: WalkStep, hasNews: boolean): void
}

/** Pages in a row that bring a walk no further. */
const MAX_DETOURS = 10

export function createWalkGuard(conversationId: string): WalkGuard {
  let deepest = -1
  let stepsBack = 0
  let detours = 0

  return {
    get stepsBack() {
      return stepsBack
    },
    check({ offset }, step, hasNews) {
      stepsBack = step.kind === 'stepBack' ? stepsBack + 1 : 0
      detours = step.kind === 'next' && hasNews && offset > deepest ? 0 : detours + 1
      if (detours > MAX_DETOURS) {
        throw new KommoPayloadError(
          `The history of conversation ${conversationId} cannot be paged: its pages neither join nor lead further`,
        )
      }
      deepest = Math.max(deepest, offset)
    },
  }
}
