SELECT position, at, scope, name, key, action, actor, reason, before, after
FROM hapax_audit WHERE id = ?3 AND position > ?1 ORDER BY position LIMIT ?2
