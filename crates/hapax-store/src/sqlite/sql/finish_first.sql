-- The holder of a first claim has done it: what it leaves behind needs no look at the record. In a group somebody may
-- wait for it.
UPDATE hapax_record
SET state = 'done', since = ?4, reason = ?5, status = ?6, headers = ?7, body = ?8, crashes = 0, wake_at = NULL,
    input = NULL, last_error = NULL, due = NULL, deadline = NULL, run_until = NULL, after_failure = NULL, starter = NULL
WHERE position = ?1 AND id = ?2 AND fence = ?3 AND state = 'running' AND group_id IS NULL
