-- Where we are, and whether the outbox is there.
SELECT
    pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS read_only,
    current_schema() AS schema,
    to_regclass('hapax_outbox') IS NOT NULL AS installed
