-- Record::turn for the next of the groups of records that are done. One that somebody holds at this moment is left: if
-- that is a take, it looks again at what it put off (`turned.sql`).
, next AS MATERIALIZED (
    SELECT r.id
    FROM unnest($5::bytea[]) AS i(id)
    JOIN hapax_record d ON d.id = ANY (ARRAY[i.id])
    CROSS JOIN LATERAL (
        SELECT o.id FROM hapax_record o
        WHERE o.group_id = d.group_id AND o.wake_at IS NOT NULL AND o.position > d.position
        ORDER BY o.position
        LIMIT 1
    ) o
    JOIN hapax_record r ON r.id = ANY (ARRAY[o.id])
    WHERE r.state = 'waiting' AND r.due <= (SELECT now FROM clock) AND r.input IS NOT NULL AND (r.wake_at <> r.due) IS TRUE
    FOR UPDATE OF r SKIP LOCKED
)
UPDATE hapax_record r
SET wake_at = r.due
FROM next n
WHERE r.id = ANY (ARRAY[n.id])
RETURNING r.id
