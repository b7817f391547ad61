-- Of all operations, or of one: only one of the two halves runs.
(
    SELECT a.position, a.at, a.scope, a.name, a.key, a.action, a.actor, a.reason, a.before, a.after
    FROM hapax_audit a
    WHERE $1::bytea IS NULL AND a.position > $2::bigint
    ORDER BY a.position
    LIMIT $3::bigint
)
UNION ALL
(
    SELECT a.position, a.at, a.scope, a.name, a.key, a.action, a.actor, a.reason, a.before, a.after
    FROM hapax_audit a
    WHERE a.id = $1::bytea AND a.position > $2::bigint
    ORDER BY a.position
    LIMIT $3::bigint
)
