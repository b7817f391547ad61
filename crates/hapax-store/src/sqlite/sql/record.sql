SELECT position, fence, scope, name, key, recipe, fingerprint, attempt, tries, created, since, replay_for, remember_for,
    state, deadline, run_until, after_failure, due, reason, status,
    headers, body, starter, crashes, last_error, redriven, wake_at,
    input, group_id
FROM hapax_record WHERE id = ?1
