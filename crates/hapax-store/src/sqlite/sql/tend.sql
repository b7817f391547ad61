-- The sweeper's transitions, none of which keeps an answer.
UPDATE hapax_record
SET state = ?4, since = ?5, reason = ?6, look_at = ?7, status = NULL, headers = NULL, body = NULL,
    due = NULL, deadline = NULL, run_until = NULL, after_failure = NULL
WHERE position = ?1 AND fence = ?2 AND state = ?3
