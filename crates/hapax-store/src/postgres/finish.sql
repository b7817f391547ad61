-- What Record::finish makes of a run. One that was unattended and of no group leaves `wake_at` null when it is done, and with it every
-- indexed column as it was (a HOT update).
UPDATE hapax_record r
SET state = i.state, since = c.now, deadline = NULL, run_until = NULL, after_failure = NULL, starter = NULL,
    due = CASE WHEN i.state = 'waiting' THEN c.now + least(i.after, c.room) END,
    reason = i.reason, status = i.status, headers = i.headers, body = i.body, last_error = i.last_error, crashes = 0,
    tries = CASE WHEN i.gives_back AND r.starter <> 'caller' THEN greatest(r.tries - 1, 0) ELSE r.tries END,
    input = CASE WHEN i.state <> 'done' THEN r.input END,
    wake_at = CASE
        WHEN i.state = 'done' THEN NULL
        WHEN i.state = 'waiting' AND r.input IS NOT NULL THEN c.now + least(i.after, c.room)
        WHEN i.state = 'unknown' AND r.wake_at < 9223372036854775807 THEN c.now
        ELSE 9223372036854775807
    END
FROM clock c,
    unnest(
        $5::bytea[], $6::bigint[], $7::text[], $8::bigint[], $9::text[], $10::integer[], $11::bytea[], $12::bytea[],
        $13::text[], $14::boolean[]
    )
    WITH ORDINALITY AS i(id, fence, state, after, reason, status, headers, body, last_error, gives_back, n)
WHERE r.id = ANY (ARRAY[i.id]) AND r.fence = i.fence
    -- A run that lapsed can still report what became of it, but not that it does not know.
    AND (r.state = 'running' OR (r.state = 'unknown' AND i.state <> 'unknown'))
-- Whether somebody may wait for it.
RETURNING c.now, c.wall, i.n, i.state = 'done' AND r.group_id IS NOT NULL AS passes
