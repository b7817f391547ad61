-- Effects that were enqueued by hapax_enqueue and wait to be taken over by a relay, which removes them.
CREATE TABLE IF NOT EXISTS hapax_outbox (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    effect VARBINARY(255) NOT NULL,
    `key` VARBINARY(255) NOT NULL,
    payload MEDIUMBLOB NOT NULL,
    content_type VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'application/json',
    aggregate VARBINARY(255) NULL,
    -- UTC
    at DATETIME(3) NOT NULL,
    -- Why no relay can take it over; NULL lets it be tried again.
    error TEXT CHARACTER SET utf8mb4 NULL,
    CONSTRAINT hapax_outbox_effect CHECK (LENGTH(effect) >= 1),
    CONSTRAINT hapax_outbox_key CHECK (LENGTH(`key`) >= 1),
    CONSTRAINT hapax_outbox_aggregate CHECK (LENGTH(aggregate) >= 1),
    CONSTRAINT hapax_outbox_payload CHECK (LENGTH(payload) <= 1048576)
) ENGINE = InnoDB
