/** One channel registered with Kommo's Chats API. */
export interface Channel {
  /** UUID, lower case. */
  id: string
  /** The secret as text: its characters are the key, not the bytes they would decode to (documented). */
  secret: string
  /** Also accepted on webhooks while a secret is being rotated. */
  previousSecret: string | null
}
