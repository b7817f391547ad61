-- The number of a recipe, the next free one for a new text. No row: another gave out the same number or text at the
-- same time; ask again.
WITH known AS (
    SELECT id FROM hapax_recipe WHERE digest = $1::bytea
), made AS (
    INSERT INTO hapax_recipe (id, digest, text)
    SELECT coalesce((SELECT max(id) FROM hapax_recipe), 0) + 1, $1::bytea, $2::text
    WHERE NOT EXISTS (SELECT FROM known)
    ON CONFLICT DO NOTHING
    RETURNING id
)
SELECT id FROM known UNION ALL SELECT id FROM made
