-- One row for each column or expression of each unique index. {expression}: MariaDB has none.
SELECT CAST(index_name AS CHAR), CAST(column_name AS CHAR), CAST(sub_part AS CHAR), CAST({expression} AS CHAR)
FROM information_schema.statistics
WHERE table_schema = ? AND table_name = ? AND non_unique = 0
ORDER BY index_name, seq_in_index
