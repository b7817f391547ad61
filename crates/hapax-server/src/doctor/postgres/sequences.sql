-- Sequences of hapax, and of its tables' identity columns.
SELECT n.nspname::text AS schema, c.relname::text AS name, format_type(s.seqtypid, NULL) AS kind,
    s.seqmax AS largest, s.seqincrement AS increment, s.seqcache AS cache, s.seqcycle AS cycles,
    -- Null before the first use, and after a restart.
    CASE WHEN p.readable THEN coalesce(pg_sequence_last_value(c.oid), 0) END AS last
FROM pg_sequence AS s
JOIN pg_class AS c ON c.oid = s.seqrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT has_sequence_privilege(c.oid, 'SELECT, USAGE')) AS p (readable)
WHERE c.relname LIKE 'hapax\_%'
ORDER BY 1, 2
