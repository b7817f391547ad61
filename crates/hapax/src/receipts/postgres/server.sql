-- Where we are, and what is there of ours.
SELECT
    pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS read_only,
    current_schema() AS schema,
    to_regclass('hapax_receipt_version') IS NOT NULL AS installed,
    to_regprocedure('hapax_receipt(text, bigint, integer, bytea, text)') IS NOT NULL AS callable,
    (SELECT string_agg(n.nspname, ', ' ORDER BY n.nspname)
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relname = 'hapax_receipt' AND c.relkind IN ('r', 'p')) AS schemas
