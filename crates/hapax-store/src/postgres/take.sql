-- Work whose time has come, the longest due about first, after the place where the last look ended. What simply waits
-- is started; of anything else only the identity is told: what becomes of it is decided on its record.
-- Rows that others take, finish or sweep at this moment are theirs.
, due AS MATERIALIZED (
    SELECT r.id, r.wake_at, r.position, r.name, r.tries,
        r.state = 'waiting' AND r.due <= (SELECT now FROM clock) AND r.input IS NOT NULL AND r.crashes < 3 AS waits
    FROM hapax_record r
    WHERE r.wake_at <= (SELECT now FROM clock)
        AND (r.wake_at, r.position) > ($5::bigint, $6::bigint)
        AND r.name = ANY ($7::text[])
        -- In solitude: suspects only.
        AND (NOT $8::boolean OR (
            r.state = 'running' AND r.after_failure = 'retry' AND r.deadline <= (SELECT now FROM clock)
            AND r.input IS NOT NULL
        ))
    ORDER BY r.wake_at, r.position
    LIMIT $9::bigint
    FOR UPDATE SKIP LOCKED
), ready AS MATERIALIZED (
    SELECT d.id, d.wake_at, d.position, c.now, d.waits AND d.tries < n.tries AS starts, n.after_failure,
        c.now + least(n.lease, n.max_run, c.room) AS deadline,
        c.now + least(n.max_run, c.room) AS run_until
    FROM clock c
    CROSS JOIN due d
    JOIN unnest($7::text[], $10::bigint[], $11::bigint[], $12::text[], $13::bigint[])
        AS n(name, lease, max_run, after_failure, tries) ON n.name = d.name
), started AS (
    UPDATE hapax_record r
    SET state = 'running', fence = nextval('hapax_fence'), attempt = $14::bytea, tries = r.tries + 1, since = d.now,
        deadline = d.deadline, run_until = d.run_until, after_failure = d.after_failure, starter = 'system',
        due = NULL, wake_at = d.deadline
    FROM ready d
    WHERE r.id = ANY (ARRAY[d.id]) AND d.starts
    RETURNING
        d.id, d.wake_at AS was_due, d.position, r.scope, r.name, r.key,
        r.recipe, r.fingerprint, r.fence, r.attempt, r.tries, r.created, r.since, r.replay_for, r.remember_for,
        r.state, r.deadline, r.run_until, r.after_failure, r.due, r.reason, r.status, r.headers, r.body, r.starter,
        r.crashes, r.last_error, r.redriven, r.wake_at, r.input, r.group_id
)
SELECT c.now, c.wall, w.*
FROM clock c
LEFT JOIN (
    SELECT s.* FROM started s
    UNION ALL
    SELECT
        d.id, d.wake_at, d.position, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL
    FROM ready d
    WHERE NOT d.starts
) w ON true
