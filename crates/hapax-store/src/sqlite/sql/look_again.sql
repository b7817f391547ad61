UPDATE hapax_record SET look_at = ?2 WHERE position = ?1
