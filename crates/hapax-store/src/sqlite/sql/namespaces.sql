SELECT scope, name FROM hapax_namespace WHERE (?1 IS NULL OR scope = ?1) AND (?2 IS NULL OR name = ?2)
