-- The first claim of an operation. No row is written if somebody has claimed it before: then the record decides.
INSERT INTO hapax_record (
    position, fence, id, scope, name, key, recipe, fingerprint, attempt, tries, created, since,
    replay_for, remember_for, deadline, run_until, after_failure, look_at, state
)
VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, ?11, ?12, ?13, ?14, ?15, ?16, 'running')
ON CONFLICT (id) DO NOTHING
