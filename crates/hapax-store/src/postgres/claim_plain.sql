-- What `claim_fresh.sql` does, for claims whose durations are far from the end of time: nearly all. Half the expressions,
-- which take the server longer to set up than a row takes to write.
INSERT INTO hapax_record AS r
    (id, scope, name, key, recipe, fingerprint, fence, attempt, tries, created, since,
     replay_for, remember_for, state, deadline, run_until, after_failure, starter, wake_at, look_at)
SELECT
    i.id, i.scope, i.name, i.key, i.recipe, i.fingerprint, nextval('hapax_fence'), i.attempt, i.counted, c.now, c.now,
    i.replay_for, i.remember_for, 'running', c.now + i.lease, c.now + i.max_run,
    i.after_failure, i.starter, CASE WHEN i.attended THEN c.now + i.lease END, c.now + i.max_run + i.replay_for
FROM clock c
CROSS JOIN unnest(
    $5::bytea[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bytea[], $11::bytea[], $12::bigint[],
    $13::bigint[], $14::bigint[], $15::text[], $16::bigint[], $17::bigint[], $18::text[], $19::boolean[]
) AS i(id, scope, name, key, recipe, fingerprint, attempt, counted,
       lease, max_run, after_failure, replay_for, remember_for, starter, attended)
ON CONFLICT (id) DO NOTHING
RETURNING r.id, r.created AS now, (SELECT wall FROM clock) AS wall, r.fence, r.deadline, r.run_until, r.tries
