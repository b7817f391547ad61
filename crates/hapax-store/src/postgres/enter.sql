-- Operations that the caller's transaction does: entered as done, and seen by others once that has committed. No row is
-- written for those that are known: then their records decide. They come packed, so that one statement serves any number
-- of them and every driver:
--   $5  for each 64 bytes: id, attempt, fingerprint   $6  for each its key; keys have no control characters
-- It also sets what bounds the transaction, which as statements of their own would cost the server as much again:
--   $15 to $17  time-outs in milliseconds: lock, idle in the transaction, statement
, bounds AS MATERIALIZED (
    SELECT
        set_config('lock_timeout', $15::text, true),
        set_config('idle_in_transaction_session_timeout', $16::text, true),
        set_config('statement_timeout', $17::text, true),
        CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END
)
INSERT INTO hapax_record AS r
    (id, scope, name, key, recipe, fingerprint, fence, attempt, tries, created, since,
     replay_for, remember_for, state, status, headers, body, look_at)
SELECT
    substr($5::bytea, 64 * i.n::integer - 63, 16), $7::text, $8::text, i.key, $9::bigint,
    substr($5::bytea, 64 * i.n::integer - 31, 32), nextval('hapax_fence'),
    substr($5::bytea, 64 * i.n::integer - 47, 16), 1, c.now, c.now,
    $10::bigint, $11::bigint, 'done', $12::bigint, $13::bytea, $14::bytea, c.now + least($10::bigint, c.room)
FROM clock c
CROSS JOIN bounds
CROSS JOIN unnest(string_to_array($6::text, E'\n')) WITH ORDINALITY AS i(key, n)
ON CONFLICT (id) DO NOTHING
RETURNING r.id, r.created AS now, (SELECT wall FROM clock) AS wall
