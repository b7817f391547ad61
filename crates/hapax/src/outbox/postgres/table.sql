-- Effects that were enqueued by hapax_enqueue and wait to be taken over by a relay, which removes them.
CREATE TABLE IF NOT EXISTS hapax_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT hapax_outbox_pkey PRIMARY KEY,
    effect text NOT NULL CONSTRAINT hapax_outbox_effect CHECK (octet_length(effect) BETWEEN 1 AND 255),
    key text NOT NULL CONSTRAINT hapax_outbox_key CHECK (octet_length(key) BETWEEN 1 AND 255),
    payload bytea NOT NULL CONSTRAINT hapax_outbox_payload CHECK (octet_length(payload) <= 1048576),
    content_type text NOT NULL DEFAULT 'application/json'
        CONSTRAINT hapax_outbox_content_type CHECK (content_type ~ '^[\x20-\x7e]{1,255}$'),
    aggregate text CONSTRAINT hapax_outbox_aggregate CHECK (octet_length(aggregate) BETWEEN 1 AND 255),
    at timestamptz NOT NULL DEFAULT now(),
    -- Why no relay can take it over; NULL lets it be tried again.
    error text
)
