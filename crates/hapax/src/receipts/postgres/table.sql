-- Proof, written by the backend in its own transaction, that an operation happened. Only hapax removes rows.
CREATE TABLE hapax_receipt (
    operation text COLLATE "C" NOT NULL CONSTRAINT hapax_receipt_pkey PRIMARY KEY
        CONSTRAINT hapax_receipt_operation CHECK (operation ~ '^[0-9a-f]{32}$'),
    fence bigint NOT NULL CONSTRAINT hapax_receipt_fence CHECK (fence > 0),
    status integer CONSTRAINT hapax_receipt_status CHECK (status BETWEEN 200 AND 599),
    body bytea,
    content_type text CONSTRAINT hapax_receipt_content_type CHECK (content_type ~ '^[\x20-\x7e]{1,255}$'),
    -- Void: no attempt up to this fence may commit any more.
    sealed boolean NOT NULL,
    at timestamptz NOT NULL,
    CONSTRAINT hapax_receipt_body CHECK (body IS NULL OR status IS NOT NULL),
    CONSTRAINT hapax_receipt_seal CHECK (NOT sealed OR (status IS NULL AND content_type IS NULL))
)
