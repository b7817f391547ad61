-- The first secret offered stands. No row: another offered one at the same time; ask again.
WITH known AS (
    SELECT value FROM hapax_meta WHERE name = 'secret'
), made AS (
    INSERT INTO hapax_meta (name, value)
    SELECT 'secret', $1::bytea WHERE NOT EXISTS (SELECT FROM known)
    ON CONFLICT DO NOTHING
    RETURNING value
)
SELECT value FROM known UNION ALL SELECT value FROM made
