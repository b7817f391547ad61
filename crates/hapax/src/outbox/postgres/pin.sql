-- Whatever the search path of its callers, the function writes to the table beside it.
DO $hapax$
BEGIN
    EXECUTE format(
        'ALTER FUNCTION hapax_enqueue(text, text, bytea, text, text) SET search_path TO %1$I, pg_temp',
        current_schema());
    EXECUTE format(
        'ALTER FUNCTION hapax_enqueue(text, text, text, text, text) SET search_path TO %1$I, pg_temp',
        current_schema());
END
$hapax$
