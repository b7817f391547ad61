-- Adds the namespace of a new record, unless it is known or the table is full: rows are counted for a new one only.
INSERT INTO hapax_namespace (scope, name)
SELECT ?1, ?2
WHERE CASE
    WHEN EXISTS (SELECT 1 FROM hapax_namespace WHERE scope = ?1 AND name = ?2) THEN false
    ELSE (SELECT count(*) FROM hapax_namespace) < ?3
END
