-- A claim that lapsed in hold mode is listed as unknown.
SELECT
    c.now, c.wall,
    r.position, r.scope, r.name, r.key, r.shown, r.fence, r.tries, r.created, r.since, r.until, r.status,
    r.dead, r.last_error, r.has_input, r.redriven,
    r.group_id
FROM clock c
LEFT JOIN LATERAL (
    SELECT
        r.position, r.scope, r.name, r.key, r.fence, r.tries, r.created, r.status,
        s.shown, s.since,
        CASE WHEN l.lapsed THEN NULL WHEN r.state = 'running' THEN r.deadline ELSE r.due END AS until,
        CASE WHEN r.state = 'dead' THEN r.reason END AS dead,
        r.last_error, r.input IS NOT NULL AS has_input, r.redriven, r.group_id
    FROM listed r
    CROSS JOIN LATERAL (
        SELECT r.state = 'running' AND r.after_failure = 'hold' AND r.deadline <= c.now AS lapsed
    ) l
    CROSS JOIN LATERAL (
        SELECT
            CASE WHEN l.lapsed THEN 'unknown' ELSE r.state END AS shown,
            CASE WHEN l.lapsed THEN r.deadline ELSE r.since END AS since
    ) s
    WHERE ($6::bytea IS NULL OR r.id = $6::bytea)
        AND ($7::text IS NULL OR r.scope = $7::text)
        AND ($8::text IS NULL OR r.name = $8::text)
        AND ($9::text IS NULL OR r.key = $9::text)
        AND ($10::text IS NULL OR s.shown = $10::text)
        AND ($11::text IS NULL OR (r.state = 'dead' AND r.reason = $11::text))
        AND ($12::bigint IS NULL OR s.since >= $12::bigint)
        AND ($13::bigint IS NULL OR s.since < $13::bigint)
    ORDER BY r.position
    LIMIT $14::bigint
) r ON true
ORDER BY r.position
