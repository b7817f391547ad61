-- take.sql where the order of groups is kept for some of the names: what would be started, but is not the oldest of its
-- group that is not done, is put off instead. What is before it is as the snapshot shows it: who put something off looks
-- again (`turned.sql`).
, due AS MATERIALIZED (
    SELECT r.id, r.wake_at, r.position, r.name, r.tries, r.crashes, r.group_id,
        r.state = 'waiting' AND r.due <= (SELECT now FROM clock) AND r.input IS NOT NULL AS waits
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
    SELECT d.id, d.wake_at, d.position, c.now, n.after_failure,
        d.waits AND d.crashes < 3 AND d.tries < n.tries AND b.before = 0 AS starts,
        d.waits AND b.before > 0 AS is_behind,
        c.now + least(n.lease, n.max_run, c.room) AS deadline,
        c.now + least(n.max_run, c.room) AS run_until,
        c.now + least(CASE b.before WHEN 1 THEN $16::bigint ELSE $17::bigint END, c.room) AS later
    FROM clock c
    CROSS JOIN due d
    JOIN unnest($7::text[], $10::bigint[], $11::bigint[], $12::text[], $13::bigint[], $15::boolean[])
        AS n(name, lease, max_run, after_failure, tries, ordered) ON n.name = d.name
    CROSS JOIN LATERAL (
        SELECT CASE WHEN n.ordered AND d.waits AND d.group_id IS NOT NULL THEN (
            -- Counted up to two, the nearest first: the oldest of a group are dead weight in its index.
            SELECT count(*) FROM (
                SELECT FROM hapax_record o
                WHERE o.group_id = d.group_id AND o.wake_at IS NOT NULL AND o.position < d.position
                ORDER BY o.position DESC
                LIMIT 2
            ) o
        ) ELSE 0 END AS before
    ) b
), put_off AS (
    UPDATE hapax_record r
    SET wake_at = d.later
    FROM ready d
    WHERE r.id = ANY (ARRAY[d.id]) AND d.is_behind
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
    SELECT s.*, false AS is_behind FROM started s
    UNION ALL
    SELECT
        d.id, d.wake_at, d.position, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, d.is_behind
    FROM ready d
    WHERE NOT d.starts
) w ON true
