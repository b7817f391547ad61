-- A person's decision, made on the record as it was read: nothing is deleted if it changed since.
WITH forgotten AS (
    DELETE FROM hapax_record r
    WHERE r.id = $1::bytea AND r.fence = $2::bigint AND r.state = $3::text AND r.since = $4::bigint
        AND r.deadline IS NOT DISTINCT FROM $5::bigint
    RETURNING r.id, r.scope, r.name, r.key
)
INSERT INTO hapax_audit (at, id, scope, name, key, action, actor, reason, before)
SELECT $6::bigint, f.id, f.scope, f.name, f.key, $7::text, $8::text, $9::text, $10::text
FROM forgotten f
RETURNING position
