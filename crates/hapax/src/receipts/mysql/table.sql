-- Proof, written by the backend in its own transaction, that an operation happened. Only hapax removes rows.
CREATE TABLE hapax_receipt (
    operation CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    fence BIGINT NOT NULL,
    status INT NULL,
    body LONGBLOB NULL,
    content_type VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NULL,
    -- Void: no attempt up to this fence may commit any more.
    sealed BOOLEAN NOT NULL,
    -- UTC
    at DATETIME(3) NOT NULL,
    CONSTRAINT hapax_receipt_fence CHECK (fence > 0),
    CONSTRAINT hapax_receipt_status CHECK (status BETWEEN 200 AND 599),
    CONSTRAINT hapax_receipt_body CHECK (body IS NULL OR status IS NOT NULL),
    CONSTRAINT hapax_receipt_seal CHECK (NOT sealed OR (status IS NULL AND content_type IS NULL))
) ENGINE = InnoDB
