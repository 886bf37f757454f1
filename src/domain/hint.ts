/** Where Kommo's general account webhook may tell which conversations to read again. */
export interface HintDoor {
  scopeId: string
  /** In the address: whoever knows it may hint, and nothing more. */
  token: string
  /** The channel's code as that webhook spells it; `null`: hints of any origin, for known conversations only. */
  origin: string | null
}

/** Somebody unproven says that the conversation has changed: it is read again, and that is all. */
export interface Hint {
  conversationId: string
  scopeId: string
  /** Whether it is taken on when it is not known yet. */
  mayBeNew: boolean
}
