-- One row an operation. The position is the fence of its first claim: unique, only growing, never reused, so that the
-- order of age needs no counter of its own and the holder of a first claim is found without an index.
--
-- The rules are written so that a row costs little to check: no IN over more than two words, which SQLite would look up
-- in a table made for each statement, and IS where NULL must not count as true.
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

-- The sweeper's. A finish does not move `look_at`, so that it touches no index.
CREATE INDEX hapax_record_look_at ON hapax_record (look_at);

-- The store's own: the last fence given out, the latest time used, the key of all digests.
CREATE TABLE hapax_meta (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    last_fence INTEGER NOT NULL CHECK (last_fence >= 0),
    last_now   INTEGER NOT NULL,
    secret     BLOB    NOT NULL CHECK (length(secret) = 32)
) STRICT;

CREATE TABLE hapax_recipe (
    recipe INTEGER PRIMARY KEY CHECK (recipe BETWEEN 1 AND 4294967295),
    text   TEXT    NOT NULL UNIQUE
) STRICT;

-- Which scopes and names have had records, so that a bare key is found by asking for its identity in each of them: an
-- index on keys would cost two fifths of a cycle's work, this costs nothing once a scope is known. Bounded by the
-- writer; complete while it has fewer rows than the bound.
CREATE TABLE hapax_namespace (
    scope TEXT NOT NULL,
    name  TEXT NOT NULL,
    PRIMARY KEY (scope, name)
) STRICT, WITHOUT ROWID;
