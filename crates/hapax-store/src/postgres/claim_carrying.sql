-- claim_fresh.sql for claims that carry an input or a group: apart, since most carry neither and would pay for it.
INSERT INTO hapax_record AS r
    (id, scope, name, key, recipe, fingerprint, fence, attempt, tries, created, since,
     replay_for, remember_for, state, deadline, run_until, after_failure, starter, wake_at, look_at,
     input, group_id)
SELECT
    i.id, i.scope, i.name, i.key, i.recipe, i.fingerprint, nextval('hapax_fence'), i.attempt, i.counted, i.now, i.now,
    i.replay_for, i.remember_for, 'running', i.lease_until, i.run_until,
    i.after_failure, i.starter,
    CASE
        WHEN i.attended OR i.input IS NOT NULL THEN i.lease_until
        WHEN i.group_id IS NOT NULL THEN 9223372036854775807
    END,
    i.run_until + least(i.replay_for, 9223372036854775807 - greatest(i.run_until, 0)),
    i.input, i.group_id
FROM (
    SELECT i.*, c.now,
        c.now + least(i.lease, i.max_run, c.room) AS lease_until,
        c.now + least(i.max_run, c.room) AS run_until
    FROM clock c
    CROSS JOIN unnest(
        $5::bytea[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bytea[], $11::bytea[], $12::bigint[],
        $13::bigint[], $14::bigint[], $15::text[], $16::bigint[], $17::bigint[], $18::text[], $19::boolean[],
        $20::bytea[], $21::bytea[]
    ) AS i(id, scope, name, key, recipe, fingerprint, attempt, counted,
           lease, max_run, after_failure, replay_for, remember_for, starter, attended, input, group_id)
) AS i
ON CONFLICT (id) DO NOTHING
RETURNING r.id, r.created AS now, (SELECT wall FROM clock) AS wall, r.fence, r.deadline, r.run_until, r.tries
