-- Effects that were enqueued by INSERT INTO hapax_outbox (effect, key, payload, content_type, aggregate) and wait to be
-- taken over by a relay, which removes them. The last two may be left out.
CREATE TABLE IF NOT EXISTS hapax_outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    effect TEXT NOT NULL,
    key TEXT NOT NULL,
    payload BLOB NOT NULL,
    content_type TEXT NOT NULL DEFAULT 'application/json',
    aggregate TEXT,
    -- Milliseconds since 1970
    at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
    -- Why no relay can take it over; NULL lets it be tried again.
    error TEXT
)
