-- The end of a stretch of records of one group, by the index `hapax_record_group`.
SELECT max(position) FROM (
    SELECT position FROM hapax_record WHERE group_id = ?1 AND position > ?2 ORDER BY position LIMIT ?3
)
