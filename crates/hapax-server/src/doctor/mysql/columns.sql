SELECT CAST(column_name AS CHAR), CAST(column_type AS CHAR), CAST(is_nullable AS CHAR), CAST(column_default AS CHAR),
    CAST(extra AS CHAR), CAST(character_set_name AS CHAR), CAST(collation_name AS CHAR),
    CAST(generation_expression AS CHAR), CAST(data_type AS CHAR)
FROM information_schema.columns
WHERE table_schema = ? AND table_name = ?
ORDER BY ordinal_position
