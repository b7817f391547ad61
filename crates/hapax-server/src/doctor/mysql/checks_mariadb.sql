SELECT CAST(check_clause AS CHAR)
FROM information_schema.check_constraints
WHERE constraint_schema = ? AND table_name = ?
