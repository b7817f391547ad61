-- How many records are before each in its line, counted up to two, the nearest first.
SELECT i.n, (
    SELECT count(*) FROM (
        SELECT FROM hapax_record o
        WHERE o.group_id = r.group_id AND o.wake_at IS NOT NULL AND o.position < r.position
        ORDER BY o.position DESC
        LIMIT 2
    ) o
) AS before
FROM unnest($1::bytea[]) WITH ORDINALITY AS i(id, n)
JOIN hapax_record r ON r.id = ANY (ARRAY[i.id])
