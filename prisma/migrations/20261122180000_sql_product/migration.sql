-- The tables as a product: reactions, search, views. Nothing newer than PostgreSQL 15, no extension.

-- CreateTable
CREATE TABLE "kommo"."conversation_clients" (
    "conversation_id" TEXT NOT NULL,
    "participant_id" TEXT NOT NULL,

    CONSTRAINT "conversation_clients_pkey" PRIMARY KEY ("conversation_id")
);

-- CreateTable
CREATE TABLE "kommo"."reaction_states" (
    "message_id" TEXT NOT NULL,
    "participant_id" TEXT NOT NULL,
    "conversation_id" TEXT NOT NULL,
    "scope_id" TEXT NOT NULL,
    "emoji" TEXT,
    "at" TIMESTAMPTZ(3) NOT NULL,
    "webhook_id" BIGINT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "reaction_states_pkey" PRIMARY KEY ("message_id","participant_id")
);

-- CreateIndex
CREATE INDEX "conversation_clients_participant_id_idx" ON "kommo"."conversation_clients"("participant_id");

-- CreateIndex
CREATE INDEX "reaction_states_conversation_id_idx" ON "kommo"."reaction_states"("conversation_id");

-- CreateIndex
CREATE INDEX "conversations_last_message_at_idx" ON "kommo"."conversations"("last_message_at");

-- The message before and the one after, also among those of the same millisecond, without sorting.
-- DropIndex
DROP INDEX "kommo"."messages_conversation_id_sent_at_idx";

-- CreateIndex
CREATE INDEX "messages_conversation_id_sent_at_id_idx" ON "kommo"."messages"("conversation_id", "sent_at", "id");

-- AddForeignKey
ALTER TABLE "kommo"."conversation_clients" ADD CONSTRAINT "conversation_clients_conversation_id_fkey" FOREIGN KEY ("conversation_id") REFERENCES "kommo"."conversations"("id") ON DELETE CASCADE ON UPDATE NO ACTION;

-- AddForeignKey
ALTER TABLE "kommo"."conversation_clients" ADD CONSTRAINT "conversation_clients_participant_id_fkey" FOREIGN KEY ("participant_id") REFERENCES "kommo"."participants"("id") ON DELETE CASCADE ON UPDATE NO ACTION;

-- AddForeignKey
ALTER TABLE "kommo"."reaction_states" ADD CONSTRAINT "reaction_states_conversation_id_fkey" FOREIGN KEY ("conversation_id") REFERENCES "kommo"."conversations"("id") ON DELETE CASCADE ON UPDATE NO ACTION;

COMMENT ON TABLE "kommo"."conversation_clients" IS
  'Which client each conversation is with, kept by the database itself from the messages, so that one client''s chats are found by index.';
COMMENT ON COLUMN "kommo"."conversation_clients"."conversation_id" IS 'The chat, kommo.conversations.id.';
COMMENT ON COLUMN "kommo"."conversation_clients"."participant_id" IS
  'The client, kommo.participants.id: who wrote the incoming and receives the outgoing messages. Where they are several, the one with the smallest id.';
COMMENT ON TABLE "kommo"."reaction_states" IS
  'The last word on each participant''s reaction to each message, also that it was taken back. To ask for reactions use kommo.reactions.';
COMMENT ON COLUMN "kommo"."reaction_states"."message_id" IS
  'The message, kommo.messages.id. It may not be stored (yet).';
COMMENT ON COLUMN "kommo"."reaction_states"."participant_id" IS
  'Who reacted, kommo.participants.id. They may not be stored (yet).';
COMMENT ON COLUMN "kommo"."reaction_states"."conversation_id" IS 'The chat, kommo.conversations.id.';
COMMENT ON COLUMN "kommo"."reaction_states"."scope_id" IS 'Channel and account: {channel_id}_{account_id}.';
COMMENT ON COLUMN "kommo"."reaction_states"."emoji" IS 'The reaction. NULL = taken back.';
COMMENT ON COLUMN "kommo"."reaction_states"."at" IS 'When Kommo told of it: the time of the webhook, in whole seconds.';
COMMENT ON COLUMN "kommo"."reaction_states"."webhook_id" IS
  'The webhook that told of it, kommo.webhook_events.id (removed there after the retention). Of two with the same time the later one counts.';
COMMENT ON COLUMN "kommo"."reaction_states"."created_at" IS 'When this row was first stored.';
COMMENT ON COLUMN "kommo"."reaction_states"."updated_at" IS 'When this row was last changed.';

-- Reaction webhooks that earlier versions only kept are worked in by the next worker. Those whose bodies the retention
-- has removed are gone: only webhooks tell of reactions.
UPDATE "kommo"."webhook_events" SET "processed_at" = NULL
WHERE "kind" = 'reaction' AND "scope_id" IS NOT NULL AND "conversation_id" IS NOT NULL AND "message_id" IS NOT NULL;

-- Which client a conversation is with. The smallest id is a rule that no order of arrival can upset, and once it is
-- known nothing is written: a page costs one look.
INSERT INTO "kommo"."conversation_clients" ("conversation_id", "participant_id")
SELECT conversation_id, min(CASE WHEN direction = 'outgoing' THEN receiver_id ELSE sender_id END)
FROM "kommo"."messages"
WHERE CASE WHEN direction = 'outgoing' THEN receiver_id ELSE sender_id END IS NOT NULL
GROUP BY conversation_id;

CREATE FUNCTION "kommo"."note_conversation_clients"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO kommo.conversation_clients AS c (conversation_id, participant_id)
  SELECT conversation_id, participant_id FROM (
    SELECT conversation_id, min(CASE WHEN direction = 'outgoing' THEN receiver_id ELSE sender_id END) AS participant_id
    FROM new_messages GROUP BY conversation_id
  ) AS told
  WHERE participant_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM kommo.conversation_clients AS known
    WHERE known.conversation_id = told.conversation_id AND known.participant_id <= told.participant_id)
  ORDER BY conversation_id
  ON CONFLICT (conversation_id) DO UPDATE SET participant_id = LEAST(c.participant_id, excluded.participant_id);
  RETURN NULL;
END $$;

CREATE TRIGGER "note_clients" AFTER INSERT ON "kommo"."messages"
  REFERENCING NEW TABLE AS new_messages FOR EACH STATEMENT
  EXECUTE FUNCTION "kommo"."note_conversation_clients"();

-- A message turns out to be another's: rare. What it had told of its conversation is looked up again.
CREATE FUNCTION "kommo"."note_other_client"() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  old_client text := CASE WHEN OLD.direction = 'outgoing' THEN OLD.receiver_id ELSE OLD.sender_id END;
  new_client text := CASE WHEN NEW.direction = 'outgoing' THEN NEW.receiver_id ELSE NEW.sender_id END;
BEGIN
  DELETE FROM kommo.conversation_clients WHERE conversation_id = OLD.conversation_id AND participant_id = old_client;
  IF FOUND THEN
    INSERT INTO kommo.conversation_clients (conversation_id, participant_id)
    SELECT OLD.conversation_id, participant_id FROM (
      SELECT min(CASE WHEN direction = 'outgoing' THEN receiver_id ELSE sender_id END) AS participant_id
      FROM kommo.messages WHERE conversation_id = OLD.conversation_id
    ) AS told
    WHERE participant_id IS NOT NULL ON CONFLICT DO NOTHING;
  END IF;
  IF new_client IS NOT NULL THEN
    INSERT INTO kommo.conversation_clients AS c (conversation_id, participant_id)
    VALUES (NEW.conversation_id, new_client)
    ON CONFLICT (conversation_id) DO UPDATE SET participant_id = excluded.participant_id
    WHERE excluded.participant_id < c.participant_id;
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER "note_client" AFTER UPDATE OF "conversation_id", "direction", "sender_id", "receiver_id" ON "kommo"."messages"
  FOR EACH ROW WHEN (
    (OLD.conversation_id, CASE WHEN OLD.direction = 'outgoing' THEN OLD.receiver_id ELSE OLD.sender_id END)
    IS DISTINCT FROM
    (NEW.conversation_id, CASE WHEN NEW.direction = 'outgoing' THEN NEW.receiver_id ELSE NEW.sender_id END))
  EXECUTE FUNCTION "kommo"."note_other_client"();

-- Search. Letters are compared without case and accents, words by their stem. Cyrillic words get the Russian stemmer,
-- Latin ones the Spanish, which without accents serves Portuguese too; English has plurals only. One pass over the text,
-- because a stemmer for each language apart costs each message another one. All of it is in every PostgreSQL, so that
-- neither an extension nor a right to create one is needed.
CREATE TEXT SEARCH CONFIGURATION "kommo"."chat" (COPY = pg_catalog.russian);
ALTER TEXT SEARCH CONFIGURATION "kommo"."chat"
  ALTER MAPPING FOR asciiword, asciihword, hword_asciipart WITH pg_catalog.spanish_stem;
COMMENT ON TEXT SEARCH CONFIGURATION "kommo"."chat" IS
  'For kommo.search_vector and kommo.search_query: stems of text that kommo.search_fold made.';

-- More than this is no chat message, and a tsvector may not pass 1 MiB: an insert must never fail for the index's sake.
CREATE FUNCTION "kommo"."search_fold"("text" text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  folded text := left($1, 20000);
BEGIN
  IF octet_length(folded) > length(folded) THEN
    folded := normalize(folded, NFD);
    -- A letter of its own, and no accent: the stemmer needs it.
    folded := replace(replace(folded, U&'\0438\0306', U&'\0439'), U&'\0418\0306', U&'\0439');
    folded := regexp_replace(folded, '[\u0300-\u036f]+', '', 'g');
    -- A database with the locale C knows no capitals beyond ASCII.
    IF lower(U&'\0416') <> U&'\0436' THEN
      folded := translate(folded,
        U&'\0410\0411\0412\0413\0414\0415\0416\0417\0418\0419\041A\041B\041C\041D\041E\041F\0420\0421\0422\0423\0424\0425\0426\0427\0428\0429\042A\042B\042C\042D\042E\042F',
        U&'\0430\0431\0432\0433\0434\0435\0436\0437\0438\0439\043A\043B\043C\043D\043E\043F\0440\0441\0442\0443\0444\0445\0446\0447\0448\0449\044A\044B\044C\044D\044E\044F');
    END IF;
  END IF;
  folded := lower(folded);
  IF folded ~ '[a-z]' THEN
    -- The plurals that the Spanish stemmer does not know: Portuguese cartoes, English orders.
    folded := regexp_replace(regexp_replace(folded, '[oa]es\M', 'ao', 'g'), '([^s])s\M', '\1', 'g');
  END IF;
  RETURN folded;
END $$;
COMMENT ON FUNCTION "kommo"."search_fold"(text) IS
  'The text in small letters, without accents and some plurals, as the search compares it; at most its first 20,000 characters.';

CREATE FUNCTION "kommo"."search_vector"("text" text) RETURNS tsvector LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 1000 AS $$
BEGIN
  RETURN to_tsvector('kommo.chat', kommo.search_fold($1));
END $$;
COMMENT ON FUNCTION "kommo"."search_vector"(text) IS
  'The words of a text by which it is found. The index on kommo.messages is on this.';

CREATE FUNCTION "kommo"."search_query"("words" text) RETURNS tsquery LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
  RETURN websearch_to_tsquery('kommo.chat', kommo.search_fold($1));
END $$;
COMMENT ON FUNCTION "kommo"."search_query"(text) IS
  'What a person types, for kommo.search_vector: all words, "a phrase" in quotes, or, -without.';

-- Rows of the table, so that filters, joins and ORDER BY work as on the table; Postgres inlines it.
CREATE FUNCTION "kommo"."search_messages"("words" text) RETURNS SETOF "kommo"."messages" LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT m.* FROM kommo.messages AS m WHERE kommo.search_vector(m.text) @@ kommo.search_query($1)
$$;
COMMENT ON FUNCTION "kommo"."search_messages"(text) IS
  'Messages whose text has these words, in Portuguese, Spanish, English or Russian, without regard to case, accents and endings. All words, "a phrase" in quotes, or, -without.';

CREATE INDEX "messages_search_idx" ON "kommo"."messages" USING gin (kommo.search_vector("text"));

-- Views. Written so that a filter on a conversation, a client or a time reaches an index, and so that a column that is
-- not asked for costs nothing: hence subqueries in the select list and no window functions.

CREATE VIEW "kommo"."reactions" AS
SELECT message_id, participant_id, emoji, at, conversation_id, scope_id, created_at, updated_at
FROM kommo.reaction_states WHERE emoji IS NOT NULL;

COMMENT ON VIEW "kommo"."reactions" IS
  'Reactions to messages, as webhooks told: one for each message and participant. What was taken back is not here.';
COMMENT ON COLUMN "kommo"."reactions"."message_id" IS 'The message, kommo.messages.id. It may not be stored (yet).';
COMMENT ON COLUMN "kommo"."reactions"."participant_id" IS
  'Who reacted, kommo.participants.id. They may not be stored (yet).';
COMMENT ON COLUMN "kommo"."reactions"."emoji" IS 'The reaction.';
COMMENT ON COLUMN "kommo"."reactions"."at" IS 'When Kommo told of it, in whole seconds.';
COMMENT ON COLUMN "kommo"."reactions"."conversation_id" IS 'The chat, kommo.conversations.id.';
COMMENT ON COLUMN "kommo"."reactions"."scope_id" IS 'Channel and account: {channel_id}_{account_id}.';
COMMENT ON COLUMN "kommo"."reactions"."created_at" IS 'When a reaction of this participant to this message was first stored.';
COMMENT ON COLUMN "kommo"."reactions"."updated_at" IS 'When it was last changed.';

CREATE VIEW "kommo"."transcript" AS
SELECT
  m.conversation_id,
  m.sent_at,
  sender.name AS who,
  m.direction,
  m.text,
  CASE WHEN d.message_id IS NOT NULL THEN concat_ws(' ',
    '[' || COALESCE(d.type, 'file') || ']', d.file_name,
    CASE
      WHEN d.file_size < 1000 THEN d.file_size || ' B'
      WHEN d.file_size < 999500 THEN round(d.file_size / 1000.0) || ' kB'
      ELSE round(d.file_size / 1000000.0, 1) || ' MB'
    END,
    d.url)
  END AS media,
  (SELECT string_agg(r.emoji, ' ' ORDER BY r.at, r.participant_id)
   FROM kommo.reaction_states AS r WHERE r.message_id = m.id) AS reactions,
  client.client_id,
  client.name AS client_name,
  c.client_id AS conversation_client_id,
  m.type,
  m.id AS message_id,
  m.sender_id,
  m.missing_since,
  m.scope_id
FROM kommo.messages AS m
LEFT JOIN kommo.conversations AS c ON c.id = m.conversation_id
LEFT JOIN kommo.conversation_clients AS k ON k.conversation_id = m.conversation_id
LEFT JOIN kommo.participants AS client ON client.id = k.participant_id
LEFT JOIN kommo.participants AS sender ON sender.id = m.sender_id
LEFT JOIN kommo.media AS d ON d.message_id = m.id;

COMMENT ON VIEW "kommo"."transcript" IS
  'Chats to read: one row for each message with who wrote it and its media in one line. Fast by conversation_id, client_id, conversation_client_id or sent_at, and for ORDER BY sent_at DESC LIMIT n.';
COMMENT ON COLUMN "kommo"."transcript"."conversation_id" IS 'The chat, kommo.conversations.id.';
COMMENT ON COLUMN "kommo"."transcript"."sent_at" IS 'When the message was written, by Kommo''s clock.';
COMMENT ON COLUMN "kommo"."transcript"."who" IS 'Name of the writer, as last shown by Kommo.';
COMMENT ON COLUMN "kommo"."transcript"."direction" IS 'outgoing = from the company, incoming = from the client.';
COMMENT ON COLUMN "kommo"."transcript"."text" IS 'The text, or the caption of a media message.';
COMMENT ON COLUMN "kommo"."transcript"."media" IS 'Kind, file name, size and link of the media in one line. NULL = none.';
COMMENT ON COLUMN "kommo"."transcript"."reactions" IS 'The emoji of the reactions, the oldest first. NULL = none.';
COMMENT ON COLUMN "kommo"."transcript"."client_id" IS
  'Your own id of the client that the chat is with, where Kommo named one: kommo.participants.client_id.';
COMMENT ON COLUMN "kommo"."transcript"."client_name" IS 'Name of the client that the chat is with.';
COMMENT ON COLUMN "kommo"."transcript"."conversation_client_id" IS
  'Your own id of the chat, where Kommo named one: kommo.conversations.client_id.';
COMMENT ON COLUMN "kommo"."transcript"."type" IS 'Kind of message in Kommo''s words: text, picture, voice and others.';
COMMENT ON COLUMN "kommo"."transcript"."message_id" IS 'The message, kommo.messages.id.';
COMMENT ON COLUMN "kommo"."transcript"."sender_id" IS 'The writer, kommo.participants.id.';
COMMENT ON COLUMN "kommo"."transcript"."missing_since" IS
  'Since when Kommo no longer has the message: it was probably deleted there. NULL = it is there.';
COMMENT ON COLUMN "kommo"."transcript"."scope_id" IS 'Channel and account: {channel_id}_{account_id}.';

CREATE VIEW "kommo"."conversation_overview" AS
SELECT
  c.id AS conversation_id,
  client.client_id,
  client.name AS client_name,
  client.phone AS client_phone,
  client.email AS client_email,
  (SELECT min(m.sent_at) FROM kommo.messages AS m
   WHERE m.conversation_id = c.id AND m.missing_since IS NULL) AS first_message_at,
  c.last_message_at,
  (SELECT count(*) FROM kommo.messages AS m
   WHERE m.conversation_id = c.id AND m.direction = 'incoming' AND m.missing_since IS NULL) AS incoming,
  (SELECT count(*) FROM kommo.messages AS m
   WHERE m.conversation_id = c.id AND m.direction = 'outgoing' AND m.missing_since IS NULL) AS outgoing,
  (SELECT min(m.sent_at) FROM kommo.messages AS m
   WHERE m.conversation_id = c.id AND m.direction = 'incoming' AND m.missing_since IS NULL AND m.sent_at > COALESCE(
     (SELECT max(answer.sent_at) FROM kommo.messages AS answer
      WHERE answer.conversation_id = c.id AND answer.direction = 'outgoing' AND answer.missing_since IS NULL),
     '-infinity')) AS waiting_since,
  CASE
    WHEN c.dead_at IS NOT NULL THEN 'dead'
    WHEN c.attempts > 0 THEN 'failing'
    WHEN c.requested > c.processed THEN 'behind'
    ELSE 'current'
  END AS sync_state,
  c.history_complete,
  c.synced_at,
  c.last_error,
  c.client_id AS conversation_client_id,
  k.participant_id AS client_participant_id,
  c.scope_id
FROM kommo.conversations AS c
LEFT JOIN kommo.conversation_clients AS k ON k.conversation_id = c.id
LEFT JOIN kommo.participants AS client ON client.id = k.participant_id;

COMMENT ON VIEW "kommo"."conversation_overview" IS
  'One row for each chat: with whom, from when to when, how much, waiting for an answer since when, and how well it is synced. Counts only messages that Kommo still has. Fast by conversation_id, client_id, conversation_client_id or last_message_at, and for ORDER BY last_message_at DESC LIMIT n.';
COMMENT ON COLUMN "kommo"."conversation_overview"."conversation_id" IS 'The chat, kommo.conversations.id.';
COMMENT ON COLUMN "kommo"."conversation_overview"."client_id" IS
  'Your own id of the client, where Kommo named one: kommo.participants.client_id.';
COMMENT ON COLUMN "kommo"."conversation_overview"."client_name" IS 'Name of the client, as last shown by Kommo.';
COMMENT ON COLUMN "kommo"."conversation_overview"."client_phone" IS 'Phone number of the client, not normalised.';
COMMENT ON COLUMN "kommo"."conversation_overview"."client_email" IS 'E-mail address of the client.';
COMMENT ON COLUMN "kommo"."conversation_overview"."first_message_at" IS
  'When the oldest known message was written. The true first one only if history_complete.';
COMMENT ON COLUMN "kommo"."conversation_overview"."last_message_at" IS 'When the newest known message was written.';
COMMENT ON COLUMN "kommo"."conversation_overview"."incoming" IS 'How many messages the client wrote.';
COMMENT ON COLUMN "kommo"."conversation_overview"."outgoing" IS 'How many messages the company wrote, bots included.';
COMMENT ON COLUMN "kommo"."conversation_overview"."waiting_since" IS
  'When the client wrote the first message that is newer than the last answer. NULL = nobody waits.';
COMMENT ON COLUMN "kommo"."conversation_overview"."sync_state" IS
  'current; behind = a read is due; failing = the last read failed and is tried again; dead = given up.';
COMMENT ON COLUMN "kommo"."conversation_overview"."history_complete" IS
  'True after a history walk reached the oldest message without a hole.';
COMMENT ON COLUMN "kommo"."conversation_overview"."synced_at" IS 'When the last history walk was completed. NULL = never.';
COMMENT ON COLUMN "kommo"."conversation_overview"."last_error" IS 'Why the last read failed. NULL after a success.';
COMMENT ON COLUMN "kommo"."conversation_overview"."conversation_client_id" IS
  'Your own id of the chat, where Kommo named one: kommo.conversations.client_id.';
COMMENT ON COLUMN "kommo"."conversation_overview"."client_participant_id" IS 'The client, kommo.participants.id.';
COMMENT ON COLUMN "kommo"."conversation_overview"."scope_id" IS 'Channel and account: {channel_id}_{account_id}.';

CREATE VIEW "kommo"."response_times" AS
SELECT
  m.conversation_id,
  m.sent_at AS asked_at,
  answer.sent_at AS answered_at,
  answer.sent_at - m.sent_at AS response_time,
  manager.name AS answered_by,
  client.client_id,
  client.name AS client_name,
  (SELECT count(*) FROM kommo.messages AS b
   WHERE b.conversation_id = m.conversation_id AND b.direction = 'incoming' AND b.missing_since IS NULL
     AND (b.sent_at, b.id) >= (m.sent_at, m.id)
     AND (b.sent_at, b.id) < (COALESCE(answer.sent_at, 'infinity'), COALESCE(answer.id, ''))) AS messages,
  previous.direction IS NULL AS opens_conversation,
  m.id AS message_id,
  answer.id AS answer_id,
  answer.sender_id AS answered_by_id,
  m.scope_id
FROM kommo.messages AS m
LEFT JOIN LATERAL (
  SELECT p.direction FROM kommo.messages AS p
  WHERE p.conversation_id = m.conversation_id AND (p.sent_at, p.id) < (m.sent_at, m.id) AND p.missing_since IS NULL
  ORDER BY p.sent_at DESC, p.id DESC LIMIT 1
) AS previous ON true
LEFT JOIN LATERAL (
  SELECT a.id, a.sent_at, a.sender_id FROM kommo.messages AS a
  WHERE a.conversation_id = m.conversation_id AND (a.sent_at, a.id) > (m.sent_at, m.id) AND a.missing_since IS NULL
    AND a.direction = 'outgoing'
  ORDER BY a.sent_at, a.id LIMIT 1
) AS answer ON true
LEFT JOIN kommo.participants AS manager ON manager.id = answer.sender_id
LEFT JOIN kommo.conversation_clients AS k ON k.conversation_id = m.conversation_id
LEFT JOIN kommo.participants AS client ON client.id = k.participant_id
WHERE m.direction = 'incoming' AND m.missing_since IS NULL AND m.sent_at IS NOT NULL
  AND previous.direction IS DISTINCT FROM 'incoming';

COMMENT ON VIEW "kommo"."response_times" IS
  'One row for each time a client wrote, several messages in a row being one: when, and how long until who answered. Only messages that Kommo still has. Fast by conversation_id, client_id or asked_at.';
COMMENT ON COLUMN "kommo"."response_times"."conversation_id" IS 'The chat, kommo.conversations.id.';
COMMENT ON COLUMN "kommo"."response_times"."asked_at" IS 'When the client wrote the first message of the row.';
COMMENT ON COLUMN "kommo"."response_times"."answered_at" IS 'When the first answer was written. NULL = not answered.';
COMMENT ON COLUMN "kommo"."response_times"."response_time" IS 'From the first message to the first answer.';
COMMENT ON COLUMN "kommo"."response_times"."answered_by" IS 'Name of the manager or bot who answered.';
COMMENT ON COLUMN "kommo"."response_times"."client_id" IS
  'Your own id of the client, where Kommo named one: kommo.participants.client_id.';
COMMENT ON COLUMN "kommo"."response_times"."client_name" IS 'Name of the client.';
COMMENT ON COLUMN "kommo"."response_times"."messages" IS 'How many messages the client wrote in a row.';
COMMENT ON COLUMN "kommo"."response_times"."opens_conversation" IS
  'True when no older message of the chat is known: the client began it. Sure only where history_complete.';
COMMENT ON COLUMN "kommo"."response_times"."message_id" IS 'The client''s first message, kommo.messages.id.';
COMMENT ON COLUMN "kommo"."response_times"."answer_id" IS 'The answer, kommo.messages.id.';
COMMENT ON COLUMN "kommo"."response_times"."answered_by_id" IS 'The manager or bot who answered, kommo.participants.id.';
COMMENT ON COLUMN "kommo"."response_times"."scope_id" IS 'Channel and account: {channel_id}_{account_id}.';

CREATE VIEW "kommo"."media_overview" AS
SELECT
  m.conversation_id,
  m.sent_at,
  sender.name AS who,
  m.direction,
  d.type,
  d.file_name,
  d.file_size,
  d.url,
  d.thumbnail_url,
  m.text AS caption,
  client.client_id,
  client.name AS client_name,
  d.media_group_id,
  m.id AS message_id,
  m.missing_since,
  m.scope_id
FROM kommo.media AS d
JOIN kommo.messages AS m ON m.id = d.message_id
LEFT JOIN kommo.participants AS sender ON sender.id = m.sender_id
LEFT JOIN kommo.conversation_clients AS k ON k.conversation_id = m.conversation_id
LEFT JOIN kommo.participants AS client ON client.id = k.participant_id;

COMMENT ON VIEW "kommo"."media_overview" IS
  'One row for each picture, voice message, file and so on: who sent it to whom and when. Fast by conversation_id, client_id, type or sent_at, and for ORDER BY sent_at DESC LIMIT n.';
COMMENT ON COLUMN "kommo"."media_overview"."conversation_id" IS 'The chat, kommo.conversations.id.';
COMMENT ON COLUMN "kommo"."media_overview"."sent_at" IS 'When it was sent, by Kommo''s clock.';
COMMENT ON COLUMN "kommo"."media_overview"."who" IS 'Name of the sender.';
COMMENT ON COLUMN "kommo"."media_overview"."direction" IS 'outgoing = from the company, incoming = from the client.';
COMMENT ON COLUMN "kommo"."media_overview"."type" IS 'Kind of media in Kommo''s words: picture, file, video, voice and others.';
COMMENT ON COLUMN "kommo"."media_overview"."file_name" IS 'File name as sent.';
COMMENT ON COLUMN "kommo"."media_overview"."file_size" IS 'Size in bytes. NULL = unknown.';
COMMENT ON COLUMN "kommo"."media_overview"."url" IS 'Link to the file. It may expire.';
COMMENT ON COLUMN "kommo"."media_overview"."thumbnail_url" IS 'Link to a small preview picture.';
COMMENT ON COLUMN "kommo"."media_overview"."caption" IS 'The text that was sent with it.';
COMMENT ON COLUMN "kommo"."media_overview"."client_id" IS
  'Your own id of the client that the chat is with, where Kommo named one: kommo.participants.client_id.';
COMMENT ON COLUMN "kommo"."media_overview"."client_name" IS 'Name of the client that the chat is with.';
COMMENT ON COLUMN "kommo"."media_overview"."media_group_id" IS 'What was sent together as one album shares this id.';
COMMENT ON COLUMN "kommo"."media_overview"."message_id" IS 'The message, kommo.messages.id.';
COMMENT ON COLUMN "kommo"."media_overview"."missing_since" IS
  'Since when Kommo no longer has the message: it was probably deleted there. NULL = it is there.';
COMMENT ON COLUMN "kommo"."media_overview"."scope_id" IS 'Channel and account: {channel_id}_{account_id}.';

CREATE VIEW "kommo"."sync_health" AS
SELECT
  s.conversations,
  s.history_complete,
  s.behind,
  s.failing,
  s.dead,
  b.behind_since,
  COALESCE(now() - b.behind_since, interval '0') AS lag,
  (SELECT count(*) FROM kommo.webhook_events WHERE processed_at IS NULL) AS webhooks_waiting,
  (SELECT received_at FROM kommo.webhook_events WHERE processed_at IS NULL ORDER BY id LIMIT 1) AS oldest_waiting_webhook_at,
  (SELECT count(*) FROM kommo.webhook_events WHERE error IS NOT NULL) AS webhooks_with_error,
  (SELECT received_at FROM kommo.webhook_events ORDER BY id DESC LIMIT 1) AS last_webhook_at,
  (SELECT count(*) FROM kommo.rate_limits WHERE blocked_until > now()) AS channels_blocked,
  (SELECT count(*) FROM kommo.replicas WHERE seen_at > now() - interval '1 minute') AS processes
FROM (
  SELECT
    count(*) AS conversations,
    count(*) FILTER (WHERE history_complete) AS history_complete,
    count(*) FILTER (WHERE requested > processed AND dead_at IS NULL) AS behind,
    count(*) FILTER (WHERE attempts > 0 AND dead_at IS NULL) AS failing,
    count(*) FILTER (WHERE dead_at IS NOT NULL) AS dead
  FROM kommo.conversations
) AS s,
(
  SELECT min(COALESCE(
    (SELECT min(e.received_at) FROM kommo.webhook_events AS e
     WHERE e.conversation_id = c.id AND e.sync_request > c.processed),
    LEAST(c.run_after, c.updated_at))) AS behind_since
  FROM kommo.conversations AS c WHERE c.requested > c.processed AND c.dead_at IS NULL
) AS b;

COMMENT ON VIEW "kommo"."sync_health" IS 'One row that says how current the tables are, for a dashboard or an alert.';
COMMENT ON COLUMN "kommo"."sync_health"."conversations" IS 'How many chats are known.';
COMMENT ON COLUMN "kommo"."sync_health"."history_complete" IS 'How many of them were read to the oldest message without a hole.';
COMMENT ON COLUMN "kommo"."sync_health"."behind" IS 'How many are due to be read.';
COMMENT ON COLUMN "kommo"."sync_health"."failing" IS 'How many could not be read the last time and are tried again.';
COMMENT ON COLUMN "kommo"."sync_health"."dead" IS 'How many were given up; kommo-sync replay --dead revives them.';
COMMENT ON COLUMN "kommo"."sync_health"."behind_since" IS
  'Since when the chat that has waited for longest has been due. NULL = none is.';
COMMENT ON COLUMN "kommo"."sync_health"."lag" IS 'How long that is ago, 0 when nothing is behind.';
COMMENT ON COLUMN "kommo"."sync_health"."webhooks_waiting" IS 'Webhooks that were answered and are not worked into the tables yet.';
COMMENT ON COLUMN "kommo"."sync_health"."oldest_waiting_webhook_at" IS 'When the oldest of them arrived. NULL = none waits.';
COMMENT ON COLUMN "kommo"."sync_health"."webhooks_with_error" IS 'Webhooks from which nothing could be stored; the reason is in kommo.webhook_events.error.';
COMMENT ON COLUMN "kommo"."sync_health"."last_webhook_at" IS 'When the last webhook arrived. NULL = none is kept.';
COMMENT ON COLUMN "kommo"."sync_health"."channels_blocked" IS 'Channels that may not be asked at the moment; why is in kommo.rate_limits.';
COMMENT ON COLUMN "kommo"."sync_health"."processes" IS 'Processes of the service that were seen within the last minute.';

CREATE VIEW "kommo"."daily_activity" AS
SELECT d.day::date AS day, a.*
FROM generate_series(
  date_trunc('day', GREATEST((SELECT min(sent_at) FROM kommo.messages), timestamptz '2000-01-01 00:00:00+00')),
  LEAST((SELECT max(sent_at) FROM kommo.messages), now() + interval '1 day'),
  interval '1 day'
) AS d (day)
CROSS JOIN LATERAL (
  SELECT
    m.scope_id,
    count(*) AS messages,
    count(*) FILTER (WHERE m.direction = 'incoming') AS incoming,
    count(*) FILTER (WHERE m.direction = 'outgoing') AS outgoing,
    count(DISTINCT m.conversation_id) AS conversations,
    count(DISTINCT m.sender_id) FILTER (WHERE m.direction = 'incoming') AS clients,
    count(DISTINCT m.sender_id) FILTER (WHERE m.direction = 'outgoing') AS managers
  FROM kommo.messages AS m
  WHERE m.sent_at >= d.day AND m.sent_at < d.day + interval '1 day' AND m.missing_since IS NULL
  GROUP BY m.scope_id
) AS a;

COMMENT ON VIEW "kommo"."daily_activity" IS
  'One row for each day with messages and each account connected to a channel. Days begin at midnight in the time zone of the session (SET TIME ZONE). Only messages that Kommo still has. Fast by day.';
COMMENT ON COLUMN "kommo"."daily_activity"."day" IS 'The day, in the time zone of the session. None before 2000 or after tomorrow.';
COMMENT ON COLUMN "kommo"."daily_activity"."scope_id" IS 'Channel and account: {channel_id}_{account_id}.';
COMMENT ON COLUMN "kommo"."daily_activity"."messages" IS 'Messages written that day.';
COMMENT ON COLUMN "kommo"."daily_activity"."incoming" IS 'Those that clients wrote.';
COMMENT ON COLUMN "kommo"."daily_activity"."outgoing" IS 'Those that the company wrote, bots included.';
COMMENT ON COLUMN "kommo"."daily_activity"."conversations" IS 'Chats in which something was written.';
COMMENT ON COLUMN "kommo"."daily_activity"."clients" IS 'Clients who wrote.';
COMMENT ON COLUMN "kommo"."daily_activity"."managers" IS 'Managers and bots who wrote.';
