-- The same for a payload given as text, and for drivers that do not say which it is: as bytea, a backslash in it would
-- be taken for an escape.
CREATE OR REPLACE FUNCTION hapax_enqueue(
    effect text,
    key text,
    payload text,
    content_type text DEFAULT 'application/json',
    aggregate text DEFAULT NULL
) RETURNS void
LANGUAGE sql
AS $hapax$
    SELECT hapax_enqueue($1, $2, convert_to($3, 'UTF8'), $4, $5)
$hapax$
