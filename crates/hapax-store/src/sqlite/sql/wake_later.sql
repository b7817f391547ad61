UPDATE hapax_record SET wake_at = ?4 WHERE position = ?1 AND fence = ?2 AND state = ?3
