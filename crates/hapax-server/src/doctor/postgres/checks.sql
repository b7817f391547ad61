-- Every CHECK that holds for all rows.
SELECT pg_get_expr(conbin, conrelid) AS expression
FROM pg_constraint
WHERE conrelid = $1 AND contype = 'c' AND convalidated
