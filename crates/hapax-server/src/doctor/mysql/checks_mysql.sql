SELECT CAST(c.check_clause AS CHAR)
FROM information_schema.table_constraints AS t
JOIN information_schema.check_constraints AS c
    ON c.constraint_schema = t.constraint_schema AND c.constraint_name = t.constraint_name
WHERE t.table_schema = ? AND t.table_name = ? AND t.constraint_type = 'CHECK' AND t.enforced = 'YES'
