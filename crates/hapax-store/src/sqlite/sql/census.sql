-- Counts a stretch of one state, from the index alone: how many, where it ends, the earliest that was due, the oldest.
SELECT count(*), max(position), min(CASE WHEN wake_at <= ?4 THEN wake_at END), min(since) FROM (
    SELECT position, wake_at, since FROM hapax_record WHERE state = ?1 AND wake_at IS NOT NULL AND position > ?2
    ORDER BY position LIMIT ?3
)
