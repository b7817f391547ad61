-- The end of a stretch of records in one state, by the index `hapax_record_open`.
SELECT max(position) FROM (
    SELECT position FROM hapax_record WHERE state = ?1 AND wake_at IS NOT NULL AND position > ?2
    ORDER BY position LIMIT ?3
)
