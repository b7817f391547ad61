CREATE TABLE hapax_receipt_version (
    version INTEGER NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))
)
