-- The server and this session, before anything is changed in it.
SELECT
    current_setting('server_version') AS version,
    current_setting('server_version_num')::integer AS version_num,
    current_database()::text AS database,
    session_user::text AS who,
    pg_is_in_recovery() AS in_recovery,
    current_setting('default_transaction_read_only') = 'on' AS read_only,
    current_setting('synchronous_standby_names') AS standbys
