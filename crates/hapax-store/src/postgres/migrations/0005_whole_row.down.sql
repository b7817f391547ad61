-- The rules of a list of facts again.
ALTER TABLE hapax_record DROP CONSTRAINT hapax_record_check;
DROP DOMAIN hapax_record_rules;

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
    input         boolean,
    group_id      bytea
);
COMMENT ON TYPE hapax_record_facts IS
    'A record for its rules; answer: how many of headers and body there are; error: length of last_error';

CREATE DOMAIN hapax_record_rules AS hapax_record_facts
    CONSTRAINT hapax_record_digests CHECK (
        octet_length((VALUE).id) = 16 AND octet_length((VALUE).attempt) = 16
        AND octet_length((VALUE).fingerprint) = 32 AND octet_length((VALUE).group_id) = 16
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
                -- What belongs to a group is found among what is open.
                AND ((VALUE).group_id IS NULL OR (VALUE).wake_at IS NOT NULL)
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
                        (VALUE).reason IN ('exhausted', 'poison', 'mismatch', 'refused', 'undone')
                END
        END
    ) IS TRUE);

ALTER TABLE hapax_record
    -- The cast applies the rules. A row is distinct from null whatever is in it.
    ADD CONSTRAINT hapax_record_check CHECK (
        ROW(
            fence, tries, crashes, id, attempt, fingerprint, state, deadline, run_until, after_failure, starter, due,
            wake_at, reason, status, num_nonnulls(headers, body), octet_length(last_error), input IS NOT NULL,
            group_id
        )::hapax_record_rules IS DISTINCT FROM NULL
    );
