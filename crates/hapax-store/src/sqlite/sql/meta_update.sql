UPDATE hapax_meta SET last_fence = ?1, last_now = ?2 WHERE one = 1
