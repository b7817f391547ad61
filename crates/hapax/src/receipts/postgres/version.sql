CREATE TABLE hapax_receipt_version (
    version integer NOT NULL PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now()
)
