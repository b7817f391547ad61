-- A claim that lapsed in hold mode is listed as unknown.
SELECT
    c.now, c.wall,
    r.position, r.scope, r.name, r.key, r.shown, r.fence, r.tries, r.created, r.since, r.until, r.status
FROM clock c
LEFT JOIN LATERAL (
    SELECT
        r.position, r.scope, r.name, r.key, r.fence, r.tries, r.created, r.status,
        CASE WHEN l.lapsed THEN 'unknown' ELSE r.state END AS shown,
        CASE WHEN l.lapsed THEN r.deadline ELSE r.since END AS since,
        CASE WHEN l.lapsed THEN NULL WHEN r.state = 'running' THEN r.deadline ELSE r.due END AS until
    FROM hapax_record r
    CROSS JOIN LATERAL (
        SELECT r.state = 'running' AND r.after_failure = 'hold' AND r.deadline <= c.now AS lapsed
    ) l
    WHERE r.position > $5::bigint
        AND ($6::bytea IS NULL OR r.id = $6::bytea)
        AND ($7::text IS NULL OR r.scope = $7::text)
        AND ($8::text IS NULL OR r.name = $8::text)
        AND ($9::text IS NULL OR r.key = $9::text)
        AND ($10::text IS NULL OR CASE WHEN l.lapsed THEN 'unknown' ELSE r.state END = $10::text)
    ORDER BY r.position
    LIMIT $11::bigint
) r ON true
ORDER BY r.position
