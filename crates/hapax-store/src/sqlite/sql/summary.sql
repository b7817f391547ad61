-- Without the answer's bytes.
SELECT position, fence, scope, name, key, recipe, fingerprint, attempt, tries, created, since, replay_for, remember_for,
    state, deadline, run_until, after_failure, due, reason, status,
    NULL, NULL
FROM hapax_record WHERE id = ?1
