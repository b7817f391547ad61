INSERT INTO hapax_namespace (scope, name) VALUES (?1, ?2) ON CONFLICT DO NOTHING
