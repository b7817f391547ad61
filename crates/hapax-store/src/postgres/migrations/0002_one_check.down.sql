ALTER TABLE hapax_record
    DROP CONSTRAINT hapax_record_check,
    ADD CONSTRAINT hapax_record_digests CHECK (
        octet_length(id) = 16 AND octet_length(attempt) = 16 AND octet_length(fingerprint) = 32
    ),
    ADD CONSTRAINT hapax_record_numbers CHECK (least(fence - 1, tries, status) >= 0),
    ADD CONSTRAINT hapax_record_state CHECK ((
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
    ) IS TRUE);

DROP DOMAIN hapax_record_rules;
DROP TYPE hapax_record_facts;
