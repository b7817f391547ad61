SELECT DISTINCT CAST(partition_expression AS CHAR), CAST(subpartition_expression AS CHAR)
FROM information_schema.partitions
WHERE table_schema = ? AND table_name = ? AND partition_name IS NOT NULL
