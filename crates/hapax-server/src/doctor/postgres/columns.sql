SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS kind,
    -- A domain or a CHECK can forbid nulls as well.
    a.attnotnull OR (t.typtype = 'd' AND t.typnotnull) AS not_null,
    a.attidentity::text AS identity,
    pg_get_expr(d.adbin, d.adrelid) AS filled,
    a.attgenerated <> '' AS generated,
    CASE WHEN t.typtype = 'd' THEN b.typname ELSE t.typname END::text AS base,
    l.collname::text AS collation,
    coalesce(l.collisdeterministic, true) AS deterministic,
    ARRAY(
        SELECT f.attname::text
        FROM pg_depend AS p
        JOIN pg_attribute AS f ON f.attrelid = a.attrelid AND f.attnum = p.refobjsubid
        WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
            AND p.refclassid = 'pg_class'::regclass AND p.refobjid = a.attrelid AND p.refobjsubid <> a.attnum
    ) AS computed_from
FROM pg_attribute AS a
JOIN pg_type AS t ON t.oid = a.atttypid
LEFT JOIN pg_type AS b ON b.oid = t.typbasetype
LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
