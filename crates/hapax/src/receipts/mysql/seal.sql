INSERT INTO hapax_receipt (operation, fence, sealed, at) VALUES (?, ?, TRUE, UTC_TIMESTAMP(3))
ON DUPLICATE KEY UPDATE
    at = IF(sealed AND fence < ?, UTC_TIMESTAMP(3), at),
    fence = IF(sealed AND fence < ?, ?, fence)
