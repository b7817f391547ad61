-- One page of what is due of a name in a state, from after (?4, ?5) on. The index leads to the due time ?4; what is due
-- in the same millisecond is stepped over.
SELECT wake_at, position FROM hapax_record
WHERE name = ?1 AND state = ?2 AND wake_at IS NOT NULL AND wake_at <= ?3 AND (wake_at, position) > (?4, ?5)
ORDER BY wake_at, position LIMIT ?6
