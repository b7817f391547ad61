SELECT name, setting AS value, source
FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes', 'data_sync_retry', 'synchronous_commit', 'default_transaction_isolation')
ORDER BY name
