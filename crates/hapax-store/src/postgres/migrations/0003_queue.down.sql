-- What was stored to be run by a runner waits for its next arrival from here on.
DROP TABLE hapax_audit;

ALTER TABLE hapax_record DROP CONSTRAINT hapax_record_check;
DROP DOMAIN hapax_record_rules;
DROP TYPE hapax_record_facts;

-- With their index.
ALTER TABLE hapax_record
    DROP COLUMN wake_at,
    DROP COLUMN crashes,
    DROP COLUMN redriven,
    DROP COLUMN starter,
    DROP COLUMN last_error,
    DROP COLUMN input;

CREATE TYPE hapax_record_facts AS (
    fence         bigint,
    tries         bigint,
    id            bytea,
    attempt       bytea,
    fingerprint   bytea,
    state         text,
    deadline      bigint,
    run_until     bigint,
    after_failure text,
    due           bigint,
    reason        text,
    status        integer,
    answer        integer
);
COMMENT ON TYPE hapax_record_facts IS
    'A record for its rules; answer: how many of headers and body there are';

CREATE DOMAIN hapax_record_rules AS hapax_record_facts
    CONSTRAINT hapax_record_digests CHECK (
        octet_length((VALUE).id) = 16 AND octet_length((VALUE).attempt) = 16
        AND octet_length((VALUE).fingerprint) = 32
    )
    CONSTRAINT hapax_record_numbers CHECK (least((VALUE).fence - 1, (VALUE).tries, (VALUE).status) >= 0)
    -- Each state has its columns and no others.
    CONSTRAINT hapax_record_state CHECK ((
        (VALUE).answer = CASE WHEN (VALUE).status IS NULL THEN 0 ELSE 2 END
        AND CASE (VALUE).state
            WHEN 'running' THEN
                (VALUE).after_failure IN ('hold', 'retry') AND (VALUE).deadline <= (VALUE).run_until
                AND num_nonnulls((VALUE).due, (VALUE).reason, (VALUE).status) = 0
            WHEN 'waiting' THEN
                (VALUE).due IS NOT NULL
                AND num_nonnulls(
                    (VALUE).deadline, (VALUE).run_until, (VALUE).after_failure, (VALUE).reason, (VALUE).status
                ) = 0
            ELSE
                num_nonnulls((VALUE).deadline, (VALUE).run_until, (VALUE).after_failure, (VALUE).due) = 0
                AND CASE (VALUE).state
                    WHEN 'unknown' THEN
                        (VALUE).reason = 'ambiguous' OR ((VALUE).reason = 'lapsed' AND (VALUE).status IS NULL)
                    WHEN 'done' THEN
                        CASE
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
            fence, tries, id, attempt, fingerprint, state, deadline, run_until, after_failure, due, reason, status,
            num_nonnulls(headers, body)
        )::hapax_record_rules IS DISTINCT FROM NULL
    );
