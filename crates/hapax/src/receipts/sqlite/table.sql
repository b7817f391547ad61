-- Proof, written by the backend in its own transaction, that an operation happened. Only hapax removes rows.
CREATE TABLE hapax_receipt (
    operation TEXT NOT NULL PRIMARY KEY,
    fence INTEGER NOT NULL,
    status INTEGER,
    body BLOB,
    content_type TEXT,
    -- Void: no attempt up to this fence may commit any more.
    sealed INTEGER NOT NULL DEFAULT 0,
    -- Milliseconds since 1970
    at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
    CONSTRAINT hapax_receipt_sealed CHECK (sealed IN (0, 1)),
    CONSTRAINT hapax_receipt_seal CHECK (NOT sealed OR (status IS NULL AND body IS NULL AND content_type IS NULL)),
    CONSTRAINT hapax_receipt_fence CHECK (typeof(fence) = 'integer' AND fence > 0)
)
