-- AlterTable
ALTER TABLE "kommo"."conversations" ADD COLUMN "full_walk_at" TIMESTAMPTZ(3),
ADD COLUMN "read_again_at" TIMESTAMPTZ(3);

-- AlterTable
ALTER TABLE "kommo"."messages" ADD COLUMN "missing_since" TIMESTAMPTZ(3);

-- AlterTable
ALTER TABLE "kommo"."webhook_events" ADD COLUMN "receipt_id" UUID;

-- CreateTable
CREATE TABLE "kommo"."message_revisions" (
    "id" BIGSERIAL NOT NULL,
    "message_id" TEXT NOT NULL,
    "observed_from" TIMESTAMPTZ(3) NOT NULL,
    "observed_to" TIMESTAMPTZ(3) NOT NULL,
    "text" TEXT,
    "media" JSONB,

    CONSTRAINT "message_revisions_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "kommo"."replicas" (
    "id" UUID NOT NULL,
    "role" TEXT NOT NULL,
    "started_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "seen_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "replicas_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "message_revisions_message_id_idx" ON "kommo"."message_revisions"("message_id");

-- CreateIndex
CREATE INDEX "conversations_read_again_idx" ON "kommo"."conversations"("read_again_at") WHERE (requested = processed AND dead_at IS NULL);

-- CreateIndex
CREATE INDEX "messages_missing_idx" ON "kommo"."messages"("missing_since") WHERE (missing_since IS NOT NULL);

-- CreateIndex
CREATE INDEX "webhook_events_error_idx" ON "kommo"."webhook_events"("kind", "id") WHERE (error IS NOT NULL);

-- CreateIndex
CREATE UNIQUE INDEX "webhook_events_receipt_id_key" ON "kommo"."webhook_events"("receipt_id");

-- AddForeignKey
ALTER TABLE "kommo"."message_revisions" ADD CONSTRAINT "message_revisions_message_id_fkey" FOREIGN KEY ("message_id") REFERENCES "kommo"."messages"("id") ON DELETE CASCADE ON UPDATE NO ACTION;

-- What is due, by channel: no channel's backlog is in the way of another's.
DROP INDEX "kommo"."conversations_due_idx";
CREATE INDEX "conversations_due_idx" ON "kommo"."conversations"(split_part(scope_id, '_', 1), "run_after") WHERE (requested > processed AND dead_at IS NULL);

-- The wording before an edit is kept by the database itself: no writer can forget it, and two at once cannot miss it.
CREATE FUNCTION "kommo"."keep_message_revision"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO kommo.message_revisions (message_id, observed_from, observed_to, text, media)
  VALUES (
    OLD.id, OLD.observed_at, NEW.observed_at, OLD.text,
    (SELECT to_jsonb(d) - 'message_id' - 'observed_at' - 'created_at' - 'updated_at' FROM kommo.media d WHERE d.message_id = OLD.id)
  );
  RETURN NULL;
END $$;

CREATE TRIGGER "keep_revision" AFTER UPDATE OF "text" ON "kommo"."messages"
  FOR EACH ROW WHEN (OLD.text IS NOT NULL AND OLD.text IS DISTINCT FROM NEW.text)
  EXECUTE FUNCTION "kommo"."keep_message_revision"();

CREATE FUNCTION "kommo"."keep_media_revision"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO kommo.message_revisions (message_id, observed_from, observed_to, text, media)
  VALUES (
    OLD.message_id, OLD.observed_at, NEW.observed_at,
    (SELECT m.text FROM kommo.messages m WHERE m.id = OLD.message_id),
    to_jsonb(OLD) - 'message_id' - 'observed_at' - 'created_at' - 'updated_at'
  );
  RETURN NULL;
END $$;

CREATE TRIGGER "keep_revision" AFTER UPDATE OF "url" ON "kommo"."media"
  FOR EACH ROW WHEN (OLD.url IS DISTINCT FROM NEW.url)
  EXECUTE FUNCTION "kommo"."keep_media_revision"();

COMMENT ON COLUMN "kommo"."conversations"."read_again_at" IS
  'Sync job: when the history is read again without a webhook. NULL = not until a webhook comes.';
COMMENT ON COLUMN "kommo"."conversations"."full_walk_at" IS
  'When a history walk last reached the oldest message itself, and not one that an earlier walk had seen. NULL = never.';
COMMENT ON COLUMN "kommo"."messages"."missing_since" IS
  'When a history walk first no longer found this message where it belongs: it was probably deleted in Kommo. NULL = it is there.';
COMMENT ON COLUMN "kommo"."webhook_events"."receipt_id" IS
  'Given on arrival, so that a webhook that waited on disk while the database was away is stored once.';
COMMENT ON TABLE "kommo"."message_revisions" IS
  'What messages said before they were edited, one row for each earlier wording.';
COMMENT ON COLUMN "kommo"."message_revisions"."id" IS 'Order in which the edits were noticed.';
COMMENT ON COLUMN "kommo"."message_revisions"."message_id" IS 'The message as it is now: kommo.messages.id.';
COMMENT ON COLUMN "kommo"."message_revisions"."observed_from" IS 'When this wording was first seen.';
COMMENT ON COLUMN "kommo"."message_revisions"."observed_to" IS 'When the next wording was first seen.';
COMMENT ON COLUMN "kommo"."message_revisions"."text" IS 'The text as it was.';
COMMENT ON COLUMN "kommo"."message_revisions"."media" IS
  'The media as they were, with the column names of kommo.media. NULL = none.';
COMMENT ON TABLE "kommo"."replicas" IS 'The processes of the service: those that run, and those that ran lately.';
COMMENT ON COLUMN "kommo"."replicas"."id" IS 'Made at the start of the process.';
COMMENT ON COLUMN "kommo"."replicas"."role" IS 'all, receiver or worker.';
COMMENT ON COLUMN "kommo"."replicas"."started_at" IS 'When the process started.';
COMMENT ON COLUMN "kommo"."replicas"."seen_at" IS 'Its last sign of life: how long nobody received webhooks can be told from it.';
