INSERT INTO hapax_audit (at, id, scope, name, key, action, actor, reason, before, after)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
