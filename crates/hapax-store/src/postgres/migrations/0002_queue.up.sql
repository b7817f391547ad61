-- What runners need of a record, and who changed one by hand.
ALTER TABLE hapax_record
    -- When a runner looks at the record: null for what is settled or runs unattended, so that an unattended run
    -- changes no indexed column when it is done; the end of time for what waits for an arrival or a person.
    ADD COLUMN wake_at    bigint,
    ADD COLUMN crashes    bigint NOT NULL DEFAULT 0,
    ADD COLUMN redriven   bigint,
    ADD COLUMN starter    text,
    ADD COLUMN last_error text,
    ADD COLUMN input      bytea;

-- Read whole, and perhaps encrypted: nothing to gain by compressing.
ALTER TABLE hapax_record ALTER COLUMN input SET STORAGE EXTERNAL;

ALTER TABLE hapax_record DROP CONSTRAINT hapax_record_state, DROP CONSTRAINT hapax_record_numbers;

UPDATE hapax_record
SET starter = CASE WHEN state = 'running' THEN 'caller' END,
    wake_at = CASE WHEN state <> 'running' THEN 9223372036854775807 END
WHERE state <> 'done';

ALTER TABLE hapax_record
    ADD CONSTRAINT hapax_record_numbers CHECK (
        least(fence - 1, tries, crashes, status) >= 0 AND octet_length(last_error) <= 1000
    ),
    -- Each state has its columns and no others. Kept short: the server parses constraints anew for every statement.
    ADD CONSTRAINT hapax_record_state CHECK ((
        num_nonnulls(status, headers, body) IN (0, 3)
        AND CASE state
            WHEN 'running' THEN
                after_failure IN ('hold', 'retry') AND starter IN ('caller', 'system', 'alone')
                AND deadline <= run_until AND num_nonnulls(due, reason, status) = 0
            WHEN 'waiting' THEN
                num_nonnulls(due, wake_at) = 2
                AND num_nonnulls(deadline, run_until, after_failure, starter, reason, status) = 0
            WHEN 'unknown' THEN
                wake_at IS NOT NULL AND num_nonnulls(deadline, run_until, after_failure, starter, due) = 0
                AND (reason = 'ambiguous' OR (reason = 'lapsed' AND status IS NULL))
            WHEN 'done' THEN
                num_nonnulls(deadline, run_until, after_failure, starter, due, wake_at, last_error, input) = 0
                AND CASE
                    WHEN status IS NULL THEN reason IN ('expired', 'too-large', 'discarded')
                    ELSE reason IS NULL
                END
            WHEN 'dead' THEN
                wake_at IS NOT NULL AND num_nonnulls(deadline, run_until, after_failure, starter, due) = 0
                AND reason IN ('exhausted', 'poison', 'mismatch', 'refused')
        END
    ) IS TRUE);

-- In the order in which runners take.
CREATE INDEX hapax_record_wake_at ON hapax_record (wake_at, position) WHERE wake_at IS NOT NULL;

-- Changes by people and resolvers. Outlives the records.
CREATE TABLE hapax_audit (
    position bigint GENERATED ALWAYS AS IDENTITY,
    at       bigint NOT NULL,
    id       bytea  NOT NULL,
    scope    text   NOT NULL,
    name     text   NOT NULL,
    key      text   NOT NULL,
    action   text   NOT NULL,
    actor    text   NOT NULL,
    reason   text   NOT NULL,
    -- The record's states; none after it was forgotten.
    before   text   NOT NULL,
    after    text,
    CONSTRAINT hapax_audit_pkey PRIMARY KEY (position),
    CONSTRAINT hapax_audit_id CHECK (octet_length(id) = 16)
);

CREATE INDEX hapax_audit_of ON hapax_audit (id, position);
