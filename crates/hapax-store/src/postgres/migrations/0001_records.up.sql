-- All times are milliseconds since 1970-01-01T00:00:00Z on the database's clock; all durations are milliseconds.

-- Store-wide facts, such as the secret that keys fingerprints.
CREATE TABLE hapax_meta (
    name  text  PRIMARY KEY,
    value bytea NOT NULL
);

-- The texts of fingerprint recipes. The digest stands in for the text, which may be too long to index.
CREATE TABLE hapax_recipe (
    id     bigint PRIMARY KEY CHECK (id > 0),
    digest bytea  NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    text   text   NOT NULL
);

-- One number for each claim, store-wide. CACHE 1: a cached range would give a later claim a lower number. Numbers
-- that no claim ends up with (a raced one) are lost, which is fine: they only have to grow.
CREATE SEQUENCE hapax_fence AS bigint CACHE 1 NO CYCLE;

CREATE TABLE hapax_record (
    position      bigint GENERATED ALWAYS AS IDENTITY,
    fence         bigint NOT NULL,
    recipe        bigint NOT NULL,
    tries         bigint NOT NULL,
    created       bigint NOT NULL,
    since         bigint NOT NULL,
    replay_for    bigint NOT NULL,
    remember_for  bigint NOT NULL,
    -- When the sweeper looks at the record. Written by claims and by the sweeper only, so that a finish changes no
    -- indexed column and stays on its page (a HOT update).
    look_at       bigint NOT NULL,
    deadline      bigint,
    run_until     bigint,
    due           bigint,
    status        integer,
    id            bytea  NOT NULL,
    attempt       bytea  NOT NULL,
    fingerprint   bytea  NOT NULL,
    scope         text   NOT NULL,
    name          text   NOT NULL,
    key           text   NOT NULL,
    state         text   NOT NULL,
    after_failure text,
    -- unknown: the cause. done: why there is no answer. dead: why.
    reason        text,
    headers       bytea,
    body          bytea,
    CONSTRAINT hapax_record_pkey PRIMARY KEY (id),
    CONSTRAINT hapax_record_position UNIQUE (position),
    CONSTRAINT hapax_record_digests CHECK (
        octet_length(id) = 16 AND octet_length(attempt) = 16 AND octet_length(fingerprint) = 32
    ),
    CONSTRAINT hapax_record_numbers CHECK (least(fence - 1, tries, status) >= 0),
    -- Each state has its columns and no others. Kept short: the server parses constraints anew for every statement.
    CONSTRAINT hapax_record_state CHECK ((
        num_nonnulls(status, headers, body) IN (0, 3)
        AND CASE state
            WHEN 'running' THEN
                after_failure IN ('hold', 'retry') AND deadline <= run_until AND num_nonnulls(due, reason, status) = 0
            WHEN 'waiting' THEN
                due IS NOT NULL AND num_nonnulls(deadline, run_until, after_failure, reason, status) = 0
            WHEN 'unknown' THEN
                num_nonnulls(deadline, run_until, after_failure, due) = 0
                AND (reason = 'ambiguous' OR (reason = 'lapsed' AND status IS NULL))
            WHEN 'done' THEN
                num_nonnulls(deadline, run_until, after_failure, due) = 0
                AND CASE
                    WHEN status IS NULL THEN reason IN ('expired', 'too-large', 'discarded')
                    ELSE reason IS NULL
                END
            WHEN 'dead' THEN
                num_nonnulls(deadline, run_until, after_failure, due) = 0
                AND reason IN ('exhausted', 'poison', 'mismatch', 'refused')
        END
    ) IS TRUE)
)
-- A finish makes about 700 bytes of the 300 that a claim wrote. Claims fill a page to this part only, so that the
-- finished records find room beside them; fuller, updates move to other pages and write every index again; emptier,
-- the table only grows.
WITH (fillfactor = 30, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- Bodies come small or compressed already, and are read whole: another compression costs time on both ways and
-- gains little.
ALTER TABLE hapax_record ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE INDEX hapax_record_look_at ON hapax_record (look_at);
