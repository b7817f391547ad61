-- One row for each key column or expression of each unique index and exclusion constraint.
SELECT x.relname::text AS name, c.oid IS NOT NULL AS is_constraint,
    i.indisvalid AS valid, i.indisready AS ready,
    EXISTS (SELECT FROM pg_locks AS k WHERE k.relation = i.indexrelid AND k.mode = 'ShareUpdateExclusiveLock') AS building,
    -- Newer than the oldest server that this is for.
    coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_same,
    coalesce(c.condeferrable, NOT i.indimmediate) AS deferrable,
    pg_get_expr(i.indpred, i.indrelid) AS predicate,
    a.attname::text AS column_name,
    pg_get_indexdef(i.indexrelid, k.n, true) AS text,
    l.collname::text AS collation,
    coalesce(l.collisdeterministic, true) AS deterministic,
    EXISTS (SELECT FROM pg_type AS t WHERE t.oid = a.atttypid AND t.typname = 'citext') AS citext,
    coalesce((SELECT o.oprname = '=' FROM pg_operator AS o WHERE o.oid = c.conexclop[k.n]), true) AS equality,
    ARRAY(
        SELECT f.attname::text
        FROM pg_depend AS p
        JOIN pg_attribute AS f ON f.attrelid = p.refobjid AND f.attnum = p.refobjsubid
        WHERE p.classid = 'pg_class'::regclass AND p.objid = i.indexrelid
            AND p.refclassid = 'pg_class'::regclass AND p.refobjid = i.indrelid AND p.refobjsubid > 0
    ) AS reads
FROM pg_index AS i
JOIN pg_class AS x ON x.oid = i.indexrelid
LEFT JOIN pg_constraint AS c ON c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x')
CROSS JOIN LATERAL generate_series(1, i.indnkeyatts::integer) AS k (n)
LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.n - 1] AND a.attnum > 0
LEFT JOIN pg_collation AS l ON l.oid = i.indcollation[k.n - 1]
WHERE i.indrelid = $1 AND (i.indisunique OR c.contype = 'x')
ORDER BY x.relname, k.n
