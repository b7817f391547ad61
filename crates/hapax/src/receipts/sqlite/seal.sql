INSERT INTO hapax_receipt (operation, fence, sealed) VALUES (?1, ?2, 1)
ON CONFLICT (operation) DO UPDATE SET fence = excluded.fence, at = excluded.at
WHERE sealed AND fence < excluded.fence
