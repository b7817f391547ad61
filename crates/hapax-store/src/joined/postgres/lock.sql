-- Waits for whoever has the record, and keeps it until the transaction ends.
SELECT r.fence FROM hapax_record r WHERE r.id = $1::bytea FOR UPDATE
