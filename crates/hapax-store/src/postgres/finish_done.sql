-- What `finish.sql` does, for runs that are done: nearly all.
UPDATE hapax_record r
SET state = 'done', since = c.now, deadline = NULL, run_until = NULL, after_failure = NULL, starter = NULL, due = NULL,
    reason = i.reason, status = i.status, headers = i.headers, body = i.body, last_error = NULL, crashes = 0,
    input = NULL, wake_at = NULL
FROM clock c, unnest($5::bytea[], $6::bigint[], $7::text[], $8::integer[], $9::bytea[], $10::bytea[])
    WITH ORDINALITY AS i(id, fence, reason, status, headers, body, n)
WHERE r.id = ANY (ARRAY[i.id]) AND r.fence = i.fence AND r.state IN ('running', 'unknown')
RETURNING c.now, c.wall, i.n, r.group_id IS NOT NULL AS passes
