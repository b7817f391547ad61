-- A person's decision, made on the record as it was read: nothing is deleted if it changed since.
, forgotten AS (
    DELETE FROM hapax_record r
    WHERE r.id = $5::bytea AND r.fence = $6::bigint AND r.state = $7::text AND r.since = $8::bigint
        AND r.deadline IS NOT DISTINCT FROM $9::bigint
    RETURNING 1
)
SELECT c.now, c.wall, EXISTS (SELECT FROM forgotten) AS forgotten FROM clock c
