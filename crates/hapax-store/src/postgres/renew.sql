UPDATE hapax_record r
SET deadline = greatest(
    r.deadline,
    least(c.now + least(i.lease, c.room), r.run_until)
),
    -- A run that lives to be renewed is no longer suspected.
    starter = CASE r.starter WHEN 'alone' THEN 'system' ELSE r.starter END
FROM clock c, unnest($5::bytea[], $6::bigint[], $7::bigint[]) WITH ORDINALITY AS i(id, fence, lease, n)
WHERE r.id = ANY (ARRAY[i.id]) AND r.fence = i.fence AND r.state = 'running' AND r.run_until > c.now
RETURNING c.now, c.wall, i.n, r.deadline
