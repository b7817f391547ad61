-- What a table is partitioned by, and whether it has child tables of the old kind.
SELECT
    coalesce(
        (
            SELECT array_agg(coalesce(a.attname::text, 'an expression') ORDER BY k.n)
            FROM pg_partitioned_table AS p
            CROSS JOIN LATERAL unnest(p.partattrs::smallint[]) WITH ORDINALITY AS k (attnum, n)
            LEFT JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = k.attnum AND k.attnum > 0
            WHERE p.partrelid = t.oid
        ),
        ARRAY[]::text[]
    ) AS partitioned_by,
    t.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits AS h WHERE h.inhparent = t.oid) AS has_heirs
FROM pg_class AS t
WHERE t.oid = $1
