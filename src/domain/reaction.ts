/** What a participant last said to a message by an emoji. */
export interface Reaction {
  messageId: string
  /** A person has one reaction to a message: `unreact` names no emoji. */
  participantId: string
  conversationId: string
  scopeId: string
  /** `null`: taken back. */
  emoji: string | null
  /** When Kommo told of it, in whole seconds. */
  at: Date
}
