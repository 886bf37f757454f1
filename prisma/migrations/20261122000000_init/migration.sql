-- The tables of kommo-sync. Written by Prisma's `diff` from prisma/schema.prisma, then the comments by hand.
-- An applied migration is never edited (its checksum is recorded): changes come as a further migration.

-- CreateSchema
CREATE SCHEMA IF NOT EXISTS "kommo";

-- CreateEnum
CREATE TYPE "kommo"."direction" AS ENUM ('incoming', 'outgoing');

-- CreateEnum
CREATE TYPE "kommo"."webhook_kind" AS ENUM ('message', 'typing', 'reaction', 'message_v1', 'unknown', 'invalid');

-- CreateTable
CREATE TABLE "kommo"."conversations" (
    "id" TEXT NOT NULL,
    "scope_id" TEXT NOT NULL,
    "client_id" TEXT,
    "history_complete" BOOLEAN NOT NULL DEFAULT false,
    "synced_at" TIMESTAMPTZ(3),
    "last_message_at" TIMESTAMPTZ(3),
    "requested" BIGINT NOT NULL DEFAULT 0,
    "processed" BIGINT NOT NULL DEFAULT 0,
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "last_error" TEXT,
    "dead_at" TIMESTAMPTZ(3),
    "run_after" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "claim_id" UUID,
    "walks_completed" INTEGER NOT NULL DEFAULT 0,
    "full_walk_request" BIGINT,
    "walk_requested" BIGINT,
    "walk_offset" INTEGER,
    "walk_tail" TEXT[] DEFAULT ARRAY[]::TEXT[],
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "conversations_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "kommo"."participants" (
    "id" TEXT NOT NULL,
    "scope_id" TEXT NOT NULL,
    "client_id" TEXT,
    "name" TEXT,
    "phone" TEXT,
    "email" TEXT,
    "avatar_url" TEXT,
    "seen_at" JSONB NOT NULL DEFAULT '{}',
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "participants_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "kommo"."messages" (
    "id" TEXT NOT NULL,
    "scope_id" TEXT NOT NULL,
    "conversation_id" TEXT NOT NULL,
    "client_id" TEXT,
    "sender_id" TEXT,
    "receiver_id" TEXT,
    "direction" "kommo"."direction" NOT NULL,
    "type" TEXT,
    "text" TEXT,
    "sent_at" TIMESTAMPTZ(3),
    "media_group_id" TEXT,
    "extra" JSONB NOT NULL DEFAULT '{}',
    "observed_at" TIMESTAMPTZ(3) NOT NULL,
    "first_walk" INTEGER,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "messages_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "kommo"."media" (
    "message_id" TEXT NOT NULL,
    "type" TEXT,
    "url" TEXT NOT NULL,
    "thumbnail_url" TEXT,
    "file_name" TEXT,
    "file_size" BIGINT,
    "media_group_id" TEXT,
    "observed_at" TIMESTAMPTZ(3) NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "media_pkey" PRIMARY KEY ("message_id")
);

-- CreateTable
CREATE TABLE "kommo"."webhook_events" (
    "id" BIGSERIAL NOT NULL,
    "scope_id" TEXT,
    "kind" "kommo"."webhook_kind" NOT NULL,
    "conversation_id" TEXT,
    "message_id" TEXT,
    "sync_request" BIGINT,
    "body" BYTEA NOT NULL,
    "received_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "processed_at" TIMESTAMPTZ(3),
    "error" TEXT,

    CONSTRAINT "webhook_events_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "kommo"."unmapped_records" (
    "conversation_id" TEXT NOT NULL,
    "digest" TEXT NOT NULL,
    "record" JSONB NOT NULL,
    "reason" TEXT NOT NULL,
    "seen_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "unmapped_records_pkey" PRIMARY KEY ("conversation_id","digest")
);

-- CreateTable
CREATE TABLE "kommo"."rate_limits" (
    "channel_id" TEXT NOT NULL,
    "next_request_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "blocked_until" TIMESTAMPTZ(6),
    "blocked_reason" TEXT,
    "refusals" INTEGER NOT NULL DEFAULT 0,

    CONSTRAINT "rate_limits_pkey" PRIMARY KEY ("channel_id")
);

-- CreateIndex
CREATE INDEX "conversations_due_idx" ON "kommo"."conversations"("run_after") WHERE (requested > processed AND dead_at IS NULL);

-- CreateIndex
CREATE INDEX "conversations_scope_id_last_message_at_idx" ON "kommo"."conversations"("scope_id", "last_message_at");

-- CreateIndex
CREATE INDEX "conversations_client_id_idx" ON "kommo"."conversations"("client_id");

-- CreateIndex
CREATE INDEX "participants_client_id_idx" ON "kommo"."participants"("client_id");

-- CreateIndex
CREATE INDEX "messages_conversation_id_sent_at_idx" ON "kommo"."messages"("conversation_id", "sent_at");

-- CreateIndex
CREATE INDEX "messages_sender_id_sent_at_idx" ON "kommo"."messages"("sender_id", "sent_at");

-- CreateIndex
CREATE INDEX "messages_receiver_id_sent_at_idx" ON "kommo"."messages"("receiver_id", "sent_at");

-- CreateIndex
CREATE INDEX "messages_sent_at_idx" ON "kommo"."messages"("sent_at");

-- CreateIndex
CREATE INDEX "messages_client_id_idx" ON "kommo"."messages"("client_id");

-- CreateIndex
CREATE INDEX "media_type_idx" ON "kommo"."media"("type");

-- CreateIndex
CREATE INDEX "webhook_events_pending_idx" ON "kommo"."webhook_events"("id") WHERE (processed_at IS NULL);

-- CreateIndex
CREATE INDEX "webhook_events_conversation_id_sync_request_idx" ON "kommo"."webhook_events"("conversation_id", "sync_request");

-- AddForeignKey
ALTER TABLE "kommo"."messages" ADD CONSTRAINT "messages_conversation_id_fkey" FOREIGN KEY ("conversation_id") REFERENCES "kommo"."conversations"("id") ON DELETE CASCADE ON UPDATE NO ACTION;

-- AddForeignKey
ALTER TABLE "kommo"."messages" ADD CONSTRAINT "messages_sender_id_fkey" FOREIGN KEY ("sender_id") REFERENCES "kommo"."participants"("id") ON DELETE SET NULL ON UPDATE NO ACTION;

-- AddForeignKey
ALTER TABLE "kommo"."messages" ADD CONSTRAINT "messages_receiver_id_fkey" FOREIGN KEY ("receiver_id") REFERENCES "kommo"."participants"("id") ON DELETE SET NULL ON UPDATE NO ACTION;

-- AddForeignKey
ALTER TABLE "kommo"."media" ADD CONSTRAINT "media_message_id_fkey" FOREIGN KEY ("message_id") REFERENCES "kommo"."messages"("id") ON DELETE CASCADE ON UPDATE NO ACTION;

-- AddForeignKey
ALTER TABLE "kommo"."unmapped_records" ADD CONSTRAINT "unmapped_records_conversation_id_fkey" FOREIGN KEY ("conversation_id") REFERENCES "kommo"."conversations"("id") ON DELETE CASCADE ON UPDATE NO ACTION;

-- Comments: what `\d+ kommo.messages` in psql tells
COMMENT ON SCHEMA "kommo" IS
  'Kommo chats, kept whole and current by kommo-sync. Ids are Kommo''s own. Empty strings from Kommo are NULL.';
COMMENT ON TYPE "kommo"."direction" IS
  'Who wrote the message: outgoing = the company (Kommo names a receiver), incoming = the client (it names none).';
COMMENT ON TYPE "kommo"."webhook_kind" IS
  'What a webhook is: message, typing, reaction (Chats API v2), message_v1 (the older format), unknown = JSON of another kind, invalid = not JSON.';

COMMENT ON TABLE "kommo"."conversations" IS
  'One row for each chat, and at the same time the job that keeps it synced: due while requested > processed and dead_at IS NULL.';
COMMENT ON COLUMN "kommo"."conversations"."id" IS 'Conversation id of the Chats API, as Kommo gives it.';
COMMENT ON COLUMN "kommo"."conversations"."scope_id" IS
  'Channel and account that the chat belongs to: {channel_id}_{account_id}.';
COMMENT ON COLUMN "kommo"."conversations"."client_id" IS
  'Id of the chat on the integration side, where Kommo named one.';
COMMENT ON COLUMN "kommo"."conversations"."history_complete" IS
  'True after a history walk reached the oldest message without a hole. Until then messages may be missing.';
COMMENT ON COLUMN "kommo"."conversations"."synced_at" IS
  'When the last history walk was completed. NULL = never.';
COMMENT ON COLUMN "kommo"."conversations"."last_message_at" IS 'sent_at of the newest known message.';
COMMENT ON COLUMN "kommo"."conversations"."requested" IS
  'How many times a sync was called for so far (webhook, reconcile, operator, backfill).';
COMMENT ON COLUMN "kommo"."conversations"."processed" IS
  'The value of requested that the last completed sync answers. Behind while requested > processed.';
COMMENT ON COLUMN "kommo"."conversations"."attempts" IS
  'Failed attempts since the last success. Drives the back-off.';
COMMENT ON COLUMN "kommo"."conversations"."last_error" IS
  'Why the last attempt failed. NULL after a success.';
COMMENT ON COLUMN "kommo"."conversations"."dead_at" IS
  'When the service gave up on this conversation. NULL = alive.';
COMMENT ON COLUMN "kommo"."conversations"."run_after" IS
  'Sync job: not to be claimed before this time. A back-off, or the end of the lease while claim_id is set.';
COMMENT ON COLUMN "kommo"."conversations"."claim_id" IS
  'Sync job: the worker run that holds the conversation until run_after. It fences out a run that lost its lease. NULL = free.';
COMMENT ON COLUMN "kommo"."conversations"."walks_completed" IS 'Sync job: number of completed history walks.';
COMMENT ON COLUMN "kommo"."conversations"."full_walk_request" IS
  'Sync job: the call (value of requested) that asked to read to the oldest message, even where everything looks known. NULL = never asked.';
COMMENT ON COLUMN "kommo"."conversations"."walk_requested" IS
  'Sync job: value of requested that the walk in progress will answer. NULL when none is in progress.';
COMMENT ON COLUMN "kommo"."conversations"."walk_offset" IS
  'Sync job: next history offset of the walk in progress, in messages from the newest. NULL when none is in progress.';
COMMENT ON COLUMN "kommo"."conversations"."walk_tail" IS
  'Sync job: message ids of the last stored page of the walk in progress. They show that the next page overlaps and nothing was skipped.';
COMMENT ON COLUMN "kommo"."conversations"."created_at" IS 'When this row was first stored.';
COMMENT ON COLUMN "kommo"."conversations"."updated_at" IS 'When this row was last changed.';

COMMENT ON TABLE "kommo"."participants" IS 'Managers, bots and clients who wrote or received a message.';
COMMENT ON COLUMN "kommo"."participants"."id" IS 'Participant id of the Chats API, as Kommo gives it.';
COMMENT ON COLUMN "kommo"."participants"."scope_id" IS
  'Channel and account in which the participant was seen: {channel_id}_{account_id}.';
COMMENT ON COLUMN "kommo"."participants"."client_id" IS
  'Id of the participant on the integration side, where Kommo named one.';
COMMENT ON COLUMN "kommo"."participants"."name" IS 'Name as last shown by Kommo.';
COMMENT ON COLUMN "kommo"."participants"."phone" IS 'Phone number as Kommo shows it, not normalised.';
COMMENT ON COLUMN "kommo"."participants"."email" IS 'E-mail address as Kommo shows it.';
COMMENT ON COLUMN "kommo"."participants"."avatar_url" IS 'Link to the picture. It may expire.';
COMMENT ON COLUMN "kommo"."participants"."seen_at" IS
  'For each column that is known, the time of the newest message that showed it: an old page must not roll a newer name back.';
COMMENT ON COLUMN "kommo"."participants"."created_at" IS 'When this row was first stored.';
COMMENT ON COLUMN "kommo"."participants"."updated_at" IS 'When this row was last changed.';

COMMENT ON TABLE "kommo"."messages" IS
  'One row for each message, from webhooks and history together. The newer observation wins a field, an empty one never does.';
COMMENT ON COLUMN "kommo"."messages"."id" IS 'Message id of the Chats API. The same in webhook and history.';
COMMENT ON COLUMN "kommo"."messages"."scope_id" IS
  'Channel and account that the message belongs to: {channel_id}_{account_id}.';
COMMENT ON COLUMN "kommo"."messages"."conversation_id" IS 'The chat, kommo.conversations.id.';
COMMENT ON COLUMN "kommo"."messages"."client_id" IS
  'Id of the message on the integration side, where Kommo named one.';
COMMENT ON COLUMN "kommo"."messages"."sender_id" IS 'Who wrote it, kommo.participants.id.';
COMMENT ON COLUMN "kommo"."messages"."receiver_id" IS
  'Whom it was sent to, kommo.participants.id. NULL on what a client wrote.';
COMMENT ON COLUMN "kommo"."messages"."direction" IS 'outgoing when Kommo names a receiver, else incoming.';
COMMENT ON COLUMN "kommo"."messages"."type" IS
  'Kind of message in Kommo''s words: text, picture, file, video, voice, audio, sticker, location, contact and others.';
COMMENT ON COLUMN "kommo"."messages"."text" IS 'The text, or the caption of a media message.';
COMMENT ON COLUMN "kommo"."messages"."sent_at" IS 'When the message was written, by Kommo''s clock.';
COMMENT ON COLUMN "kommo"."messages"."media_group_id" IS
  'Messages that were sent together as one album share this id.';
COMMENT ON COLUMN "kommo"."messages"."extra" IS
  'Every field of the message that has no column, under Kommo''s own names, merged key by key from webhook and history.';
COMMENT ON COLUMN "kommo"."messages"."observed_at" IS
  'When this state was true in Kommo: moment of the history request, or time of the webhook.';
COMMENT ON COLUMN "kommo"."messages"."first_walk" IS
  'Sync job: number of the history walk in which the message was first seen in history. NULL while only a webhook told of it.';
COMMENT ON COLUMN "kommo"."messages"."created_at" IS 'When this row was first stored.';
COMMENT ON COLUMN "kommo"."messages"."updated_at" IS 'When this row was last changed.';

COMMENT ON TABLE "kommo"."media" IS
  'The media of a message, where Kommo gave a link. At most one row for each message.';
COMMENT ON COLUMN "kommo"."media"."message_id" IS 'The message, kommo.messages.id.';
COMMENT ON COLUMN "kommo"."media"."type" IS
  'Kind of media in Kommo''s words: picture, file, video, voice, audio, sticker and others.';
COMMENT ON COLUMN "kommo"."media"."url" IS 'Link to the file. It may expire.';
COMMENT ON COLUMN "kommo"."media"."thumbnail_url" IS 'Link to a small preview picture.';
COMMENT ON COLUMN "kommo"."media"."file_name" IS 'File name as sent.';
COMMENT ON COLUMN "kommo"."media"."file_size" IS 'Size in bytes. NULL = unknown (Kommo says 0).';
COMMENT ON COLUMN "kommo"."media"."media_group_id" IS
  'Messages that were sent together as one album share this id.';
COMMENT ON COLUMN "kommo"."media"."observed_at" IS
  'When this state was true in Kommo: moment of the history request, or time of the webhook.';
COMMENT ON COLUMN "kommo"."media"."created_at" IS 'When this row was first stored.';
COMMENT ON COLUMN "kommo"."media"."updated_at" IS 'When this row was last changed.';

COMMENT ON TABLE "kommo"."webhook_events" IS
  'The inbox: every webhook with a good signature, stored before it is answered 200. Those processed without an error are removed after RETENTION_DAYS.';
COMMENT ON COLUMN "kommo"."webhook_events"."id" IS 'Order of arrival.';
COMMENT ON COLUMN "kommo"."webhook_events"."scope_id" IS
  'Channel and account that signed it: {channel_id}_{account_id}. NULL where it cannot be stored.';
COMMENT ON COLUMN "kommo"."webhook_events"."kind" IS 'What the webhook is, see type kommo.webhook_kind.';
COMMENT ON COLUMN "kommo"."webhook_events"."conversation_id" IS
  'The chat that the body names. NULL = none could be read.';
COMMENT ON COLUMN "kommo"."webhook_events"."message_id" IS
  'The message that the body names. NULL = none could be read.';
COMMENT ON COLUMN "kommo"."webhook_events"."sync_request" IS
  'Which of the conversation''s requested calls this webhook was. NULL when it called for no sync.';
COMMENT ON COLUMN "kommo"."webhook_events"."body" IS
  'The body, byte for byte as it came. Read it with convert_from(body, ''UTF8'').';
COMMENT ON COLUMN "kommo"."webhook_events"."received_at" IS 'When it arrived.';
COMMENT ON COLUMN "kommo"."webhook_events"."processed_at" IS
  'When it was worked into the tables, or set aside with an error. NULL = pending.';
COMMENT ON COLUMN "kommo"."webhook_events"."error" IS 'Why it could not be used. NULL = no fault.';

COMMENT ON TABLE "kommo"."unmapped_records" IS
  'History records without a usable message id, kept whole so that nothing Kommo said is lost.';
COMMENT ON COLUMN "kommo"."unmapped_records"."conversation_id" IS
  'The chat in whose history it was seen, kommo.conversations.id.';
COMMENT ON COLUMN "kommo"."unmapped_records"."digest" IS
  'Hash of the record: the same record seen again is stored once.';
COMMENT ON COLUMN "kommo"."unmapped_records"."record" IS 'The record as Kommo sent it.';
COMMENT ON COLUMN "kommo"."unmapped_records"."reason" IS 'Why it could not become a message.';
COMMENT ON COLUMN "kommo"."unmapped_records"."seen_at" IS 'When it was first seen.';

COMMENT ON TABLE "kommo"."rate_limits" IS
  'One row for each channel: when its next request to Kommo may leave, for all replicas together.';
COMMENT ON COLUMN "kommo"."rate_limits"."channel_id" IS 'Channel id, as in the configuration.';
COMMENT ON COLUMN "kommo"."rate_limits"."next_request_at" IS
  'The next free moment. Taking a token moves it on by one interval.';
COMMENT ON COLUMN "kommo"."rate_limits"."blocked_until" IS
  'No request before this time: Kommo answered 429, sent Retry-After or blocked the channel. NULL = not blocked.';
COMMENT ON COLUMN "kommo"."rate_limits"."blocked_reason" IS 'Why the channel is blocked.';
COMMENT ON COLUMN "kommo"."rate_limits"."refusals" IS
  'Refusals by Kommo in a row, 0 after an answer. Drives how long the next block lasts.';
