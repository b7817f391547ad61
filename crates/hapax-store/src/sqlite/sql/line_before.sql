-- How many records are before one in its line, counted up to two, the nearest first.
SELECT count(*) FROM (
    SELECT 1 FROM hapax_record WHERE group_id = ?1 AND wake_at IS NOT NULL AND position < ?2
    ORDER BY position DESC LIMIT 2
)
