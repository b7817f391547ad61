-- Without answers: what the sweeper does depends only on whether there is one, and the status says so.
SELECT position, fence, scope, name, key, recipe, fingerprint, attempt, tries, created, since, replay_for, remember_for,
    state, deadline, run_until, after_failure, due, reason, status,
    NULL, NULL
FROM hapax_record WHERE look_at <= ?1 ORDER BY look_at, position LIMIT ?2
