-- One row in orders, payments or points is one effect. The three headers of the request that
-- caused it are kept as received; NULL means that the header was absent.

CREATE TABLE IF NOT EXISTS stock (
    item    TEXT PRIMARY KEY,
    on_hand INTEGER NOT NULL CHECK (on_hand >= 0)
);

CREATE TABLE IF NOT EXISTS orders (
    id              INTEGER PRIMARY KEY,
    customer        TEXT NOT NULL,
    client_order_id TEXT,
    item            TEXT NOT NULL REFERENCES stock (item),
    quantity        INTEGER NOT NULL CHECK (quantity > 0),
    idempotency_key TEXT,
    operation       TEXT,
    fence           TEXT,
    created_ms      INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
);

CREATE TABLE IF NOT EXISTS payments (
    id              INTEGER PRIMARY KEY,
    order_id        INTEGER REFERENCES orders (id),
    intent          TEXT,
    amount_cents    INTEGER NOT NULL CHECK (amount_cents > 0),
    idempotency_key TEXT,
    operation       TEXT,
    fence           TEXT,
    created_ms      INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    CHECK ((order_id IS NULL) <> (intent IS NULL))
);

CREATE TABLE IF NOT EXISTS points (
    id              INTEGER PRIMARY KEY,
    customer        TEXT NOT NULL,
    points          INTEGER NOT NULL CHECK (points > 0),
    idempotency_key TEXT,
    operation       TEXT,
    fence           TEXT,
    created_ms      INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
);

CREATE VIEW IF NOT EXISTS effect (kind, id, idempotency_key, operation, fence, created_ms) AS
    SELECT 'order', id, idempotency_key, operation, fence, created_ms FROM orders
    UNION ALL
    SELECT 'payment', id, idempotency_key, operation, fence, created_ms FROM payments
    UNION ALL
    SELECT 'points', id, idempotency_key, operation, fence, created_ms FROM points;
