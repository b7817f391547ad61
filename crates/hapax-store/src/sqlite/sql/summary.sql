-- Without the answer's bytes, and of the input only whether there is one.
SELECT position, fence, scope, name, key, recipe, fingerprint, attempt, tries, created, since, replay_for, remember_for,
    state, deadline, run_until, after_failure, due, reason, status,
    NULL, NULL, starter, crashes, last_error, redriven, wake_at,
    CASE WHEN input IS NOT NULL THEN x'' END, group_id
FROM hapax_record WHERE id = ?1
