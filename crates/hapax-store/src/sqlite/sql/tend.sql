-- The sweeper's transitions, none of which keeps an answer or touches the input.
UPDATE hapax_record
SET state = ?4, since = ?5, reason = ?6, wake_at = ?7, look_at = ?8, status = NULL, headers = NULL, body = NULL,
    due = NULL, deadline = NULL, run_until = NULL, after_failure = NULL, starter = NULL
WHERE position = ?1 AND fence = ?2 AND state = ?3
