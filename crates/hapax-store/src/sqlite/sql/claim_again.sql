-- A later claim of the same operation: the record as `started` makes it, if it is still the one decided on.
UPDATE hapax_record
SET fence = ?4, attempt = ?5, tries = ?6, since = ?7, replay_for = ?8, remember_for = ?9,
    deadline = ?10, run_until = ?11, after_failure = ?12, starter = ?13, wake_at = ?14, look_at = ?15,
    input = coalesce(input, ?16),
    state = 'running', due = NULL, reason = NULL, status = NULL, headers = NULL, body = NULL
WHERE position = ?1 AND fence = ?2 AND state = ?3
