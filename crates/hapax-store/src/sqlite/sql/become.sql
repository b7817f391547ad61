-- The end of a run: the record leaves the state it was decided in.
UPDATE hapax_record
SET state = ?5, since = ?6, due = ?7, reason = ?8, status = ?9, headers = ?10, body = ?11,
    deadline = NULL, run_until = NULL, after_failure = NULL
WHERE position = ?1 AND id = ?2 AND fence = ?3 AND state = ?4
