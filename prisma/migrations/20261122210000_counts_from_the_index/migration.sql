-- Whose a message is, and whether it is still there, without looking at the message itself.
DROP INDEX "kommo"."messages_conversation_id_sent_at_id_idx";
CREATE INDEX "messages_conversation_id_sent_at_id_idx" ON "kommo"."messages"("conversation_id", "sent_at", "id") INCLUDE ("direction", "missing_since");

CREATE OR REPLACE VIEW "kommo"."conversation_overview" AS
SELECT
  c.id AS conversation_id,
  client.client_id,
  client.name AS client_name,
  client.phone AS client_phone,
  client.email AS client_email,
  (SELECT min(m.sent_at) FROM kommo.messages AS m
   WHERE m.conversation_id = c.id AND m.missing_since IS NULL) AS first_message_at,
  c.last_message_at,
  counted.incoming,
  counted.outgoing,
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
LEFT JOIN kommo.participants AS client ON client.id = k.participant_id
-- Both in one pass, because counting visits each message.
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE m.direction = 'incoming') AS incoming,
         count(*) FILTER (WHERE m.direction = 'outgoing') AS outgoing
  FROM kommo.messages AS m
  WHERE m.conversation_id = c.id AND m.missing_since IS NULL
) AS counted;
