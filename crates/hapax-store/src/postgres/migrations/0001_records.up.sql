-- All times are milliseconds since 1970-01-01T00:00:00Z on the database's clock; all durations are milliseconds.

-- Store-wide facts, such as the secret that keys fingerprints.
CREATE TABLE hapax_meta (
    name  text  PRIMARY KEY,
    value bytea NOT NULL
);

-- The texts of fingerprint recipes. The digest stands in for the text, which may be too long to index.
CREATE TABLE hapax_recipe (
    id     bigint PRIMARY KEY CHECK (id BETWEEN 1 AND 4294967295),
    digest bytea  NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    text   text   NOT NULL
);

-- One number for each claim, store-wide. CACHE 1: a cached range would give a later claim a lower number. Numbers
-- that no claim ends up with (a raced one) are lost, which is fine: they only have to grow.
CREATE SEQUENCE hapax_fence AS bigint CACHE 1 NO CYCLE;

CREATE TABLE hapax_record (
    position      bigint GENERATED ALWAYS AS IDENTITY,
    fence         bigint NOT NULL CHECK (fence > 0),
    recipe        bigint NOT NULL CHECK (recipe BETWEEN 0 AND 4294967295),
    tries         bigint NOT NULL CHECK (tries BETWEEN 0 AND 4294967295),
    created       bigint NOT NULL,
    since         bigint NOT NULL,
    replay_for    bigint NOT NULL CHECK (replay_for >= 0),
    remember_for  bigint NOT NULL CHECK (remember_for >= 0),
    -- When the sweeper looks at the record. Written by claims and by the sweeper only, so that a finish changes no
    -- indexed column and stays on its page (a HOT update).
    look_at       bigint NOT NULL,
    deadline      bigint,
    run_until     bigint,
    due           bigint,
    status        integer CHECK (status BETWEEN 0 AND 65535),
    id            bytea  NOT NULL CHECK (octet_length(id) = 16),
    attempt       bytea  NOT NULL CHECK (octet_length(attempt) = 16),
    fingerprint   bytea  NOT NULL CHECK (octet_length(fingerprint) = 32),
    scope         text   NOT NULL CHECK (octet_length(scope) BETWEEN 1 AND 255),
    name          text   NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    key           text   NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    state         text   NOT NULL,
    after_failure text,
    -- unknown: the cause. done: why there is no answer. dead: why.
    reason        text,
    headers       bytea,
    body          bytea,
    CONSTRAINT hapax_record_pkey PRIMARY KEY (id),
    CONSTRAINT hapax_record_position UNIQUE (position),
    CONSTRAINT hapax_record_answer_is_whole CHECK (
        (status IS NULL) = (headers IS NULL) AND (status IS NULL) = (body IS NULL)
    ),
    -- Each state has its columns and no others.
    CONSTRAINT hapax_record_state CHECK (
        CASE state
            WHEN 'running' THEN
                deadline IS NOT NULL AND run_until IS NOT NULL AND deadline <= run_until
                AND after_failure IS NOT NULL AND after_failure IN ('hold', 'retry')
                AND due IS NULL AND reason IS NULL AND status IS NULL
            WHEN 'waiting' THEN
                due IS NOT NULL AND reason IS NULL AND status IS NULL
            WHEN 'unknown' THEN
                due IS NULL AND reason IS NOT NULL
                AND (reason = 'ambiguous' OR (reason = 'lapsed' AND status IS NULL))
            WHEN 'done' THEN
                due IS NULL
                AND CASE
                    WHEN status IS NULL THEN reason IS NOT NULL AND reason IN ('expired', 'too-large', 'discarded')
                    ELSE reason IS NULL
                END
            WHEN 'dead' THEN
                due IS NULL AND reason IS NOT NULL
                AND reason IN ('exhausted', 'poison', 'mismatch', 'refused')
            ELSE false
        END
        AND (state = 'running' OR (deadline IS NULL AND run_until IS NULL AND after_failure IS NULL))
    )
)
-- A finish makes about 700 bytes of the 300 that a claim wrote. Claims fill a page to this part only, so that the
-- finished records find room beside them; fuller, updates move to other pages and write every index again; emptier,
-- the table only grows.
WITH (fillfactor = 30, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- Bodies come small or compressed already, and are read whole: another compression costs time on both ways and
-- gains little.
ALTER TABLE hapax_record ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE INDEX hapax_record_look_at ON hapax_record (look_at);
