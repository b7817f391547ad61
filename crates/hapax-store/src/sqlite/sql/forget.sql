DELETE FROM hapax_record WHERE position = ?1 AND fence = ?2 AND state = ?3
