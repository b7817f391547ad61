-- Holders whose lease ran out in hold mode: nobody knows what became of their run.
UPDATE hapax_record r
SET state = 'unknown', reason = 'lapsed', since = r.deadline, deadline = NULL, run_until = NULL, after_failure = NULL,
    starter = NULL, wake_at = CASE WHEN r.wake_at < 9223372036854775807 THEN r.deadline ELSE 9223372036854775807 END
FROM clock c, unnest($5::bytea[], $6::bigint[]) WITH ORDINALITY AS i(id, fence, n)
WHERE r.id = ANY (ARRAY[i.id]) AND r.fence = i.fence
    AND r.state = 'running' AND r.after_failure = 'hold' AND r.deadline <= c.now
RETURNING c.now, c.wall, i.n
