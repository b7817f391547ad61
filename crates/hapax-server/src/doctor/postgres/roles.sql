-- Settings that some roles or databases have instead of the server's, as far as they matter here.
SELECT r.rolname::text AS role, d.datname::text AS database, lower(split_part(c.setting, '=', 1)) AS name,
    lower(split_part(c.setting, '=', 2)) AS value
FROM pg_db_role_setting AS s
CROSS JOIN LATERAL unnest(s.setconfig) AS c (setting)
LEFT JOIN pg_roles AS r ON r.oid = s.setrole
LEFT JOIN pg_database AS d ON d.oid = s.setdatabase
WHERE (s.setdatabase = 0 OR d.datname = current_database())
    AND lower(split_part(c.setting, '=', 1))
        IN ('synchronous_commit', 'default_transaction_isolation', 'default_transaction_read_only')
ORDER BY 3, 1 NULLS FIRST, 2 NULLS FIRST
