-- A record as it was decided to be, if it is still the one decided on. The input is kept (?22), dropped or new.
UPDATE hapax_record
SET fence = ?4, attempt = ?5, state = ?6, since = ?7, deadline = ?8, run_until = ?9, after_failure = ?10, starter = ?11,
    due = ?12, reason = ?13, status = ?14, headers = ?15, body = ?16, tries = ?17, crashes = ?18, last_error = ?19,
    redriven = ?20, wake_at = ?21, input = CASE WHEN ?22 THEN input ELSE ?23 END
WHERE position = ?1 AND fence = ?2 AND state = ?3
