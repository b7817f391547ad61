UPDATE hapax_record r
SET state = i.state, since = c.now, deadline = NULL, run_until = NULL, after_failure = NULL,
    due = CASE WHEN i.state = 'waiting' THEN c.now + least(i.after, c.room) END,
    reason = i.reason, status = i.status, headers = i.headers, body = i.body
FROM clock c,
    unnest($5::bytea[], $6::bigint[], $7::text[], $8::bigint[], $9::text[], $10::integer[], $11::bytea[], $12::bytea[])
    WITH ORDINALITY AS i(id, fence, state, after, reason, status, headers, body, n)
WHERE r.id = i.id AND r.fence = i.fence
    -- A run that lapsed can still report what became of it, but not that it does not know.
    AND (r.state = 'running' OR (r.state = 'unknown' AND i.state <> 'unknown'))
RETURNING c.now, c.wall, i.n
