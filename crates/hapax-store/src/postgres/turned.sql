-- Record::turn for what was put off a moment ago, where what was before it is done by now.
WITH turned AS MATERIALIZED (
    SELECT r.id
    FROM unnest($1::bytea[]) AS i(id)
    JOIN hapax_record r ON r.id = ANY (ARRAY[i.id])
    WHERE r.state = 'waiting' AND r.input IS NOT NULL AND (r.wake_at > r.due) IS TRUE
        AND (
            SELECT o.position FROM hapax_record o
            WHERE o.group_id = r.group_id AND o.wake_at IS NOT NULL AND o.position < r.position
            ORDER BY o.position DESC
            LIMIT 1
        ) IS NULL
    FOR UPDATE OF r SKIP LOCKED
)
UPDATE hapax_record r
SET wake_at = r.due
FROM turned t
WHERE r.id = ANY (ARRAY[t.id])
RETURNING r.id
