-- The fence says that it is still the row that was looked at.
DELETE FROM hapax_receipt AS receipt
USING unnest($1::text[], $2::bigint[]) AS gone (operation, fence)
WHERE receipt.operation = gone.operation AND receipt.fence = gone.fence
RETURNING receipt.operation
