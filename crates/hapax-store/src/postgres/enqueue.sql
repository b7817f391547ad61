-- Operations that were never asked for. What becomes of the others is decided on their records.
INSERT INTO hapax_record AS r
    (id, scope, name, key, recipe, fingerprint, fence, attempt, tries, created, since,
     replay_for, remember_for, state, due, wake_at, look_at, input, group_id)
SELECT
    i.id, i.scope, i.name, i.key, i.recipe, i.fingerprint, nextval('hapax_fence'), i.attempt, 0, c.now, c.now,
    i.replay_for, i.remember_for, 'waiting', d.due, d.due,
    d.due + least(i.replay_for, 9223372036854775807 - greatest(d.due, 0)), i.input, i.group_id
FROM clock c
CROSS JOIN unnest(
    $5::bytea[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bytea[], $11::bytea[], $12::bigint[],
    $13::bigint[], $14::bigint[], $15::bytea[], $16::bytea[]
) AS i(id, scope, name, key, recipe, fingerprint, attempt, delay, replay_for, remember_for, input, group_id)
CROSS JOIN LATERAL (
    SELECT c.now + least(i.delay, c.room) AS due
) d
ON CONFLICT (id) DO NOTHING
-- The clock's columns are not in reach here: a record that is new was made now.
RETURNING r.id, r.created AS now
