-- Waits for a transaction that writes the receipt, as the receipt waits for this.
INSERT INTO hapax_receipt AS receipt (operation, fence, sealed, at)
VALUES ($1, $2, true, now())
ON CONFLICT ON CONSTRAINT hapax_receipt_pkey DO UPDATE
SET fence = EXCLUDED.fence, at = EXCLUDED.at
WHERE receipt.sealed AND receipt.fence < EXCLUDED.fence
