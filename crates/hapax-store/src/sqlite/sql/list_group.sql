-- One stretch of the records of a group.
SELECT position, fence, scope, name, key, recipe, fingerprint, attempt, tries, created, since, replay_for, remember_for,
    state, deadline, run_until, after_failure, due, reason, status,
    NULL, NULL, starter, crashes, last_error, redriven, wake_at,
    CASE WHEN input IS NOT NULL THEN x'' END, group_id
FROM hapax_record WHERE group_id = ?12 AND position > ?1 AND position <= ?2
    AND (?3 IS NULL OR ?3 = CASE WHEN state = 'running' AND after_failure = 'hold' AND deadline <= ?4 THEN 'unknown' ELSE state END)
    AND (?5 IS NULL OR scope = ?5)
    AND (?6 IS NULL OR name = ?6)
    AND (?7 IS NULL OR key = ?7)
    AND (?9 IS NULL OR reason = ?9)
    AND (?10 IS NULL OR CASE WHEN state = 'running' AND after_failure = 'hold' AND deadline <= ?4 THEN deadline ELSE since END >= ?10)
    AND (?11 IS NULL OR CASE WHEN state = 'running' AND after_failure = 'hold' AND deadline <= ?4 THEN deadline ELSE since END < ?11)
ORDER BY position LIMIT ?8
