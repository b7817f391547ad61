UPDATE hapax_record SET deadline = ?3 WHERE position = ?1 AND fence = ?2 AND state = 'running'
