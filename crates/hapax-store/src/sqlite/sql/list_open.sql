-- The same for a state whose records are all in the index `hapax_record_open`.
SELECT position, fence, scope, name, key, recipe, fingerprint, attempt, tries, created, since, replay_for, remember_for,
    state, deadline, run_until, after_failure, due, reason, status,
    NULL, NULL, starter, crashes, last_error, redriven, wake_at,
    CASE WHEN input IS NOT NULL THEN x'' END, group_id
FROM hapax_record WHERE state = ?3 AND wake_at IS NOT NULL AND position > ?1 AND position <= ?2
    AND (?4 IS NULL OR scope = ?4)
    AND (?5 IS NULL OR name = ?5)
    AND (?6 IS NULL OR key = ?6)
    AND (?7 IS NULL OR reason = ?7)
    AND (?8 IS NULL OR since >= ?8)
    AND (?9 IS NULL OR since < ?9)
ORDER BY position LIMIT ?10
