-- Record::turn for the next of a group, after one that is done.
UPDATE hapax_record SET wake_at = due
WHERE position = (
    SELECT position FROM hapax_record WHERE group_id = ?1 AND wake_at IS NOT NULL AND position > ?2
    ORDER BY position LIMIT 1
)
    AND state = 'waiting' AND due <= ?3 AND input IS NOT NULL
