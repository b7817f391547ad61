-- From the index of what is not settled. A claim that lapsed in hold mode counts as unknown.
SELECT c.now, c.wall,
    count(*) FILTER (WHERE r.state = 'waiting') AS waiting,
    count(*) FILTER (WHERE l.unknown) AS unknown,
    count(*) FILTER (WHERE r.state = 'dead') AS dead,
    min(r.wake_at) FILTER (WHERE r.state = 'waiting' AND r.wake_at <= c.now) AS oldest_due,
    min(coalesce(r.deadline, r.since)) FILTER (WHERE l.unknown) AS oldest_unknown
FROM clock c
LEFT JOIN hapax_record r ON r.wake_at IS NOT NULL
CROSS JOIN LATERAL (
    SELECT r.state = 'unknown'
        OR (r.state = 'running' AND r.after_failure = 'hold' AND r.deadline <= c.now) AS unknown
) l
GROUP BY c.now, c.wall
