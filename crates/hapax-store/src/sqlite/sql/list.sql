-- One stretch of positions, so that no reading transaction lasts long enough to hold up checkpoints.
SELECT position, fence, scope, name, key, recipe, fingerprint, attempt, tries, created, since, replay_for, remember_for,
    state, deadline, run_until, after_failure, due, reason, status,
    NULL, NULL
FROM hapax_record
WHERE position > ?1 AND position <= ?2
    AND (?3 IS NULL OR ?3 = CASE
        WHEN state = 'running' AND after_failure = 'hold' AND deadline <= ?4 THEN 'unknown'
        ELSE state
    END)
    AND (?5 IS NULL OR scope = ?5)
    AND (?6 IS NULL OR name = ?6)
    AND (?7 IS NULL OR key = ?7)
ORDER BY position LIMIT ?8
