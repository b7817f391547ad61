-- Groups are lost, and with them their order. A dead letter whose compensation has begun has no word in the older
-- rules, and could be redriven under any other: while there is one this fails, and changes nothing. Close it first.
DROP INDEX hapax_record_id;
DROP INDEX hapax_record_look_at;
DROP INDEX hapax_record_wake_at;
DROP INDEX hapax_record_open;
DROP INDEX hapax_record_group;
DROP INDEX hapax_record_line;
ALTER TABLE hapax_record RENAME TO hapax_record_before;

CREATE TABLE hapax_record (
    position      INTEGER PRIMARY KEY CHECK (position >= 1),
    id            BLOB    NOT NULL CHECK (length(id) = 16),
    fence         INTEGER NOT NULL CHECK (fence >= position),
    state         TEXT    NOT NULL,
    look_at       INTEGER NOT NULL,
    wake_at       INTEGER,
    created       INTEGER NOT NULL,
    since         INTEGER NOT NULL CHECK (since >= created),
    deadline      INTEGER,
    run_until     INTEGER,
    after_failure TEXT,
    starter       TEXT,
    due           INTEGER,
    reason        TEXT,
    status        INTEGER CHECK (status = 0 OR status BETWEEN 100 AND 999),
    tries         INTEGER NOT NULL CHECK (tries BETWEEN 0 AND 4294967295),
    crashes       INTEGER NOT NULL CHECK (crashes BETWEEN 0 AND 3),
    redriven      INTEGER CHECK (redriven >= created),
    replay_for    INTEGER NOT NULL CHECK (replay_for >= 0),
    remember_for  INTEGER NOT NULL CHECK (remember_for >= replay_for),
    recipe        INTEGER NOT NULL CHECK (recipe BETWEEN 0 AND 4294967295),
    fingerprint   BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    attempt       BLOB    NOT NULL CHECK (length(attempt) = 16),
    scope         TEXT    NOT NULL CHECK (octet_length(scope) BETWEEN 1 AND 255),
    name          TEXT    NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
    key           TEXT    NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    last_error    TEXT    CHECK (octet_length(last_error) <= 1000),
    headers       BLOB,
    body          BLOB,
    input         BLOB,
    -- An answer is whole or absent.
    CHECK ((status IS NULL) = (headers IS NULL) AND (status IS NULL) = (body IS NULL)),
    -- Each state has its columns and no others. What is settled wakes nobody; what a runner can run always does.
    CHECK (CASE state
        WHEN 'done' THEN deadline IS NULL AND run_until IS NULL AND after_failure IS NULL AND due IS NULL
            AND starter IS NULL AND wake_at IS NULL AND input IS NULL AND last_error IS NULL
            AND CASE WHEN reason IS NULL THEN status IS NOT NULL
                ELSE status IS NULL AND (reason = 'expired' OR reason = 'too-large' OR reason = 'discarded') END
        WHEN 'running' THEN deadline IS NOT NULL AND (run_until >= deadline) IS 1
            AND (after_failure IS 'hold' OR after_failure IS 'retry')
            AND (starter IS 'caller' OR starter IS 'system' OR starter IS 'alone')
            AND (input IS NULL OR wake_at IS NOT NULL)
            AND due IS NULL AND reason IS NULL AND status IS NULL
        WHEN 'waiting' THEN (due >= since) IS 1 AND reason IS NULL AND status IS NULL AND wake_at IS NOT NULL
            AND deadline IS NULL AND run_until IS NULL AND after_failure IS NULL AND starter IS NULL
        WHEN 'unknown' THEN (reason IS 'lapsed' OR reason IS 'ambiguous') AND wake_at IS NOT NULL
            AND deadline IS NULL AND run_until IS NULL AND after_failure IS NULL AND starter IS NULL AND due IS NULL
        WHEN 'dead' THEN (reason IS 'exhausted' OR reason IS 'poison' OR reason IS 'mismatch' OR reason IS 'refused')
            AND wake_at IS NOT NULL
            AND deadline IS NULL AND run_until IS NULL AND after_failure IS NULL AND starter IS NULL AND due IS NULL
        ELSE 0
    END)
) STRICT;

-- A run that nobody attends woke nobody.
INSERT INTO hapax_record (
    position, id, fence, state, look_at, wake_at, created, since, deadline, run_until, after_failure, starter, due,
    reason, status, tries, crashes, redriven, replay_for, remember_for, recipe, fingerprint, attempt, scope, name, key,
    last_error, headers, body, input
)
SELECT
    position, id, fence, state, look_at,
    CASE WHEN state = 'running' AND wake_at = 9223372036854775807 THEN NULL ELSE wake_at END,
    created, since, deadline, run_until, after_failure, starter, due,
    reason, status, tries, crashes, redriven, replay_for, remember_for, recipe, fingerprint, attempt, scope, name, key,
    last_error, headers, body, input
FROM hapax_record_before ORDER BY position;

DROP TABLE hapax_record_before;

-- Made after the copy: sorting once is cheaper than one random insertion a row.
CREATE UNIQUE INDEX hapax_record_id ON hapax_record (id);

-- The sweeper's. A finish does not move `look_at`, so that it touches no index.
CREATE INDEX hapax_record_look_at ON hapax_record (look_at);

-- The runners': by name, so that what they do not handle costs them nothing, and by state, so that suspects are found
-- among what waits. What nobody attends is not in it.
CREATE INDEX hapax_record_wake_at ON hapax_record (name, state, wake_at) WHERE wake_at IS NOT NULL;

-- For listings of what waits or is dead, in the order of age, and for the census, which reads nothing else.
CREATE INDEX hapax_record_open ON hapax_record (state, position, wake_at, since) WHERE wake_at IS NOT NULL;
