-- Inputs, last errors and the audit are lost: what waited for a runner waits for an arrival.
DROP TABLE hapax_audit;
DROP INDEX hapax_record_id;
DROP INDEX hapax_record_look_at;
DROP INDEX hapax_record_wake_at;
DROP INDEX hapax_record_open;
ALTER TABLE hapax_record RENAME TO hapax_record_before;

CREATE TABLE hapax_record (
    position      INTEGER PRIMARY KEY CHECK (position >= 1),
    id            BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    fence         INTEGER NOT NULL CHECK (fence >= position),
    state         TEXT    NOT NULL,
    look_at       INTEGER NOT NULL,
    created       INTEGER NOT NULL,
    since         INTEGER NOT NULL CHECK (since >= created),
    deadline      INTEGER,
    run_until     INTEGER,
    after_failure TEXT,
    due           INTEGER,
    reason        TEXT,
    status        INTEGER CHECK (status = 0 OR status BETWEEN 100 AND 999),
    tries         INTEGER NOT NULL CHECK (tries BETWEEN 0 AND 4294967295),
    replay_for    INTEGER NOT NULL CHECK (replay_for >= 0),
    remember_for  INTEGER NOT NULL CHECK (remember_for >= replay_for),
    recipe        INTEGER NOT NULL CHECK (recipe BETWEEN 0 AND 4294967295),
    fingerprint   BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    attempt       BLOB    NOT NULL CHECK (length(attempt) = 16),
    scope         TEXT    NOT NULL CHECK (octet_length(scope) BETWEEN 1 AND 255),
    name          TEXT    NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    key           TEXT    NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    headers       BLOB,
    body          BLOB,
    -- An answer is whole or absent.
    CHECK ((status IS NULL) = (headers IS NULL) AND (status IS NULL) = (body IS NULL)),
    -- Each state has its columns and no others.
    CHECK (CASE state
        WHEN 'done' THEN deadline IS NULL AND run_until IS NULL AND after_failure IS NULL AND due IS NULL
            AND CASE WHEN reason IS NULL THEN status IS NOT NULL
                ELSE status IS NULL AND (reason = 'expired' OR reason = 'too-large' OR reason = 'discarded') END
        WHEN 'running' THEN deadline IS NOT NULL AND (run_until >= deadline) IS 1
            AND (after_failure IS 'hold' OR after_failure IS 'retry')
            AND due IS NULL AND reason IS NULL AND status IS NULL
        WHEN 'waiting' THEN (due >= since) IS 1 AND reason IS NULL AND status IS NULL
            AND deadline IS NULL AND run_until IS NULL AND after_failure IS NULL
        WHEN 'unknown' THEN (reason IS 'lapsed' OR reason IS 'ambiguous')
            AND deadline IS NULL AND run_until IS NULL AND after_failure IS NULL AND due IS NULL
        WHEN 'dead' THEN (reason IS 'exhausted' OR reason IS 'poison' OR reason IS 'mismatch' OR reason IS 'refused')
            AND deadline IS NULL AND run_until IS NULL AND after_failure IS NULL AND due IS NULL
        ELSE 0
    END)
) STRICT;

INSERT INTO hapax_record (
    position, id, fence, state, look_at, created, since, deadline, run_until, after_failure, due, reason, status, tries,
    replay_for, remember_for, recipe, fingerprint, attempt, scope, name, key, headers, body
)
SELECT
    position, id, fence, state, look_at, created, since, deadline, run_until, after_failure, due, reason, status, tries,
    replay_for, remember_for, recipe, fingerprint, attempt, scope, name, key, headers, body
FROM hapax_record_before ORDER BY position;

DROP TABLE hapax_record_before;

CREATE INDEX hapax_record_look_at ON hapax_record (look_at);
