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

ALTER TABLE hapax_record DROP CONSTRAINT hapax_record_check;
DROP DOMAIN hapax_record_rules;
DROP TYPE hapax_record_facts;

UPDATE hapax_record
SET starter = CASE WHEN state = 'running' THEN 'caller' END,
    wake_at = CASE WHEN state <> 'running' THEN 9223372036854775807 END
WHERE state <> 'done';

CREATE TYPE hapax_record_facts AS (
    fence         bigint,
    tries         bigint,
    crashes       bigint,
    id            bytea,
    attempt       bytea,
    fingerprint   bytea,
    state         text,
    deadline      bigint,
    run_until     bigint,
    after_failure text,
    starter       text,
    due           bigint,
    wake_at       bigint,
    reason        text,
    status        integer,
    answer        integer,
    error         integer,
    input         boolean
);
COMMENT ON TYPE hapax_record_facts IS
    'A record for its rules; answer: how many of headers and body there are; error: length of last_error';

CREATE DOMAIN hapax_record_rules AS hapax_record_facts
    CONSTRAINT hapax_record_digests CHECK (
        octet_length((VALUE).id) = 16 AND octet_length((VALUE).attempt) = 16
        AND octet_length((VALUE).fingerprint) = 32
    )
    CONSTRAINT hapax_record_numbers CHECK (
        least((VALUE).fence - 1, (VALUE).tries, (VALUE).crashes, (VALUE).status) >= 0 AND (VALUE).error <= 1000
    )
    -- Each state has its columns and no others.
    CONSTRAINT hapax_record_state CHECK ((
        (VALUE).answer = CASE WHEN (VALUE).status IS NULL THEN 0 ELSE 2 END
        AND CASE (VALUE).state
            WHEN 'running' THEN
                (VALUE).after_failure IN ('hold', 'retry') AND (VALUE).starter IN ('caller', 'system', 'alone')
                AND (VALUE).deadline <= (VALUE).run_until
                AND num_nonnulls((VALUE).due, (VALUE).reason, (VALUE).status) = 0
            WHEN 'waiting' THEN
                num_nonnulls((VALUE).due, (VALUE).wake_at) = 2
                AND num_nonnulls(
                    (VALUE).deadline, (VALUE).run_until, (VALUE).after_failure, (VALUE).starter, (VALUE).reason,
                    (VALUE).status
                ) = 0
            ELSE
                num_nonnulls(
                    (VALUE).deadline, (VALUE).run_until, (VALUE).after_failure, (VALUE).starter, (VALUE).due
                ) = 0
                AND ((VALUE).wake_at IS NULL) = ((VALUE).state = 'done')
                AND CASE (VALUE).state
                    WHEN 'unknown' THEN
                        (VALUE).reason = 'ambiguous' OR ((VALUE).reason = 'lapsed' AND (VALUE).status IS NULL)
                    WHEN 'done' THEN
                        NOT (VALUE).input AND (VALUE).error IS NULL
                        AND CASE
                            WHEN (VALUE).status IS NULL THEN (VALUE).reason IN ('expired', 'too-large', 'discarded')
                            ELSE (VALUE).reason IS NULL
                        END
                    WHEN 'dead' THEN
                        (VALUE).reason IN ('exhausted', 'poison', 'mismatch', 'refused')
                END
        END
    ) IS TRUE);

ALTER TABLE hapax_record
    -- The cast applies the rules. A row is distinct from null whatever is in it.
    ADD CONSTRAINT hapax_record_check CHECK (
        ROW(
            fence, tries, crashes, id, attempt, fingerprint, state, deadline, run_until, after_failure, starter, due,
            wake_at, reason, status, num_nonnulls(headers, body), octet_length(last_error), input IS NOT NULL
        )::hapax_record_rules IS DISTINCT FROM NULL
    );

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
