-- The same for a body given as text, and for drivers that do not say which it is: as bytea, a backslash in it would be
-- taken for an escape.
CREATE OR REPLACE FUNCTION hapax_receipt(
    operation text,
    fence bigint,
    status integer,
    body text,
    content_type text DEFAULT NULL
) RETURNS void
LANGUAGE sql
AS $hapax$
    SELECT hapax_receipt($1, $2, $3, convert_to($4, 'UTF8'), $5)
$hapax$
