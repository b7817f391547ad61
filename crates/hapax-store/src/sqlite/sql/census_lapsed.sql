-- Attended claims that lapsed: unknown, though nobody has noticed yet.
SELECT count(*), min(deadline) FROM hapax_record
WHERE state = 'running' AND wake_at IS NOT NULL AND after_failure = 'hold' AND deadline <= ?1
